"""Measurements: speed (bench), correctness on this machine (selftest), quality of answers (eval)."""
