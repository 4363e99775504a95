"""The Requests tab: every request of the page and of the API on one time axis, as it runs."""
