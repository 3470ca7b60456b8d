"""What a model says of itself, where the shipped models are, and how they are bundled for a device."""
