"""The Video tab: which frames of a clip the model gets."""
