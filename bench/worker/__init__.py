"""Runs one candidate in a process of its own, so that a crash is a result and memory is its own."""
