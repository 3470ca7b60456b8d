"""Runs each candidate in a separate process, which isolates crashes and memory use."""
