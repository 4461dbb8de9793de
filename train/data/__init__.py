"""From files to batches: rows, splits, examples, packing, what the loop is given at each step."""
