"""The engine thread: its commands, its scheduler, and one request from admission to its end.

checks, fit, replay and tickets run in any thread.
"""
