"""Measures latency, parity and accuracy of models, and reports them."""
