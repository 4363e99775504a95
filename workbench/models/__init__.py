"""The Models tab: what is on this machine, what fits, what is loaded, and what the hub has."""
