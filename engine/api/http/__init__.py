"""HTTP as tools expect it: paths and methods, other web pages, packed bodies, limits, and the document of the API."""
