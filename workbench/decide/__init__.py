"""The Decide tab: many typed questions about one picture, clip or text."""
