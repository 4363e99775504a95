"""The Benchmark tab: suites that are run from the page, and saved runs to compare."""
