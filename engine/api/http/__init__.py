"""HTTP as tools expect it: paths and methods, other web pages, headers, packed bodies, limits, the API's document."""
