"""From a recipe to its model; so far what a run starts from, and what a task needs of a tokenizer."""
