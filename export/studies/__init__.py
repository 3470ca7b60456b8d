"""Experiments that need PyTorch; run by hand, from a checkout."""
