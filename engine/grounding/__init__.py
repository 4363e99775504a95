"""Boxes and points in answers: how each family writes them (forms), reading them (read), and where they lie on the
medium as it came (place). Pure Python, any thread."""
