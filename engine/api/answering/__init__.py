"""How every protocol answers: streamed or whole, what was used, and errors."""
