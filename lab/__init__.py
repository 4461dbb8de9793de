"""The history and the claims of attention, one command each: `python -m lab NAME`."""
