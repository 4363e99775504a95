"""Stored KV, snapshots and vision features in a folder, which a restart finds again.

tier connects it with memory; restore and features bring it back; store has the files by key, index their order,
checksummed their format; reader and writer are the two threads.
"""
