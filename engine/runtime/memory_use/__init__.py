"""What requests take of the memory beside the weights: stored KV, running rows, a vision tower at work."""
