"""Times calls in interleaved rounds, records the machine's state, and computes statistics."""
