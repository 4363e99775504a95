"""Who asks, what they may see, and whose cached work they share."""
