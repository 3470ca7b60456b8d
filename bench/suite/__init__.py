"""Runs a benchmark: opens the candidates, times them in interleaved rounds, checks their outputs, and reports."""
