"""The processes of a job: what each of them may take from its surroundings."""
