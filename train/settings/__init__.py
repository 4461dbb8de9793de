"""The keys of a recipe; so far what recipes of earlier versions meant by keys that they lack."""
