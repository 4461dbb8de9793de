"""Everything that trains, evaluates and publishes a model; it runs through accelerate."""
