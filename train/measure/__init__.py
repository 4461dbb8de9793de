"""Figures: how a model is evaluated, and what is written down of it."""
