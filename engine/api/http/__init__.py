"""HTTP as tools expect it: keys, connections, uploads, paths and methods, other web pages, limits, the document."""
