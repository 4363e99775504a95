"""The Benchmark tab: suites that run in the page, and kept runs held against each other."""
