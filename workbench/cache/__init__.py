"""The Cache tab: what is stored, what each prompt reused, and why it did not reuse more."""
