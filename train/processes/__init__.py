"""The processes of a job: how long one waits for another."""
