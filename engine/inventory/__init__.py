"""The models of this machine, read from their own files, and what fits into its memory. Imports no MLX."""
