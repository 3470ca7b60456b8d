"""Compares the outputs of two runners, in task units and with a tolerance."""
