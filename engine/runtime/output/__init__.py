"""One answer as it is written: tokens, text, tool calls, and what must not be written."""
