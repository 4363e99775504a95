"""Command-line options that several commands share, a file for each group: its options, and the settings of them."""
