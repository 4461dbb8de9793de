"""The processes of a job: how long one waits for another, and what each takes from its surroundings."""
