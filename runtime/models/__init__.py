"""Model files: their metadata, the shipped ones, and the bundles that carry them to a device."""
