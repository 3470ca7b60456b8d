"""Model files: their metadata, the shipped models, and bundles for devices."""
