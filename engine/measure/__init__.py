"""What is measured: how fast (bench), is it right on this machine (selftest), how well does it answer (eval)."""
