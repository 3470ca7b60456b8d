"""Readers of labelled data sets, and model inputs sampled from real pictures."""
