"""Reports: JSON, Markdown, CSV and HTML, regressions between two, the recommended model."""
