"""Vision by proxy: a model that cannot see is told by another one what is in a picture or a clip."""
