"""Stored KV, row snapshots and vision features in a folder, found again after a restart."""
