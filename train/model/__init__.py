"""From a recipe to its model; so far what a task needs of a tokenizer."""
