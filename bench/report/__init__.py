"""Benchmark reports as JSON, Markdown, CSV and HTML; regressions between two reports; model recommendation."""
