"""The training tasks: samples, labels, losses and metrics for each kind of network."""
