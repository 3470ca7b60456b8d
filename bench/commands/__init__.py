"""The commands that measure: bench, evaluate, verify."""
