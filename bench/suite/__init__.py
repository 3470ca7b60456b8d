"""Runs a benchmark: opens the candidates, measures them in turns, checks them, and reports."""
