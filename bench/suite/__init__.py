"""Runs a benchmark: opens the candidates, times them in interleaved rounds, checks them, and reports."""
