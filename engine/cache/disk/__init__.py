"""Stored KV, snapshots and vision features in a folder, found again after a restart."""
