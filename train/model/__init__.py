"""The model of a run: so far what it starts from."""
