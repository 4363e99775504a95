"""The models as JSON: which there are, load and unload them, fetch them from the hub."""
