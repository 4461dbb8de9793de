"""A run: what it keeps beside its checkpoints, and what it remembers of its way."""
