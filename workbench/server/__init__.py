"""The server's log and its restart, for its operator: a dialog that the header's card and the Models tab open."""
