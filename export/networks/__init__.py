"""Defines the networks and their checkpoints."""
