"""Batch processing of pictures: in threads on this machine, or in shards on a Ray cluster."""
