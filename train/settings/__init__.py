"""A recipe: its keys, their rules, and how it is read from a file and a command line."""
