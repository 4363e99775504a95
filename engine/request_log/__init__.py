"""What is known of each request, kept for the last of them: in memory, and on disk where a file is named."""
