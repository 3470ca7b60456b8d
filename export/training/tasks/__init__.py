"""What each kind of network is trained on and with: samples, labels, losses and metrics of a task."""
