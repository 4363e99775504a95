"""The models in memory: which are there, which come and go, and what each gets."""
