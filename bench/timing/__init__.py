"""Times calls: warm-up, interleaved rounds, statistics, the state of the machine."""
