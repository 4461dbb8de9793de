"""What is drawn: the course of a run, and where a translation looks."""
