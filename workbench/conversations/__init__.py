"""Conversations that are kept: the file they are in, their media, search, export, and answers being written."""
