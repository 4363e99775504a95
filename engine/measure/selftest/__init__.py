"""Correctness on this machine with this model: the engine compared with itself and with the model's own processor.

fixtures    the pictures and clips of the test, drawn here, so that every pixel is known
observer    records on the engine thread: tokens, log-probabilities, the arrays that the model was given
reference   what the model's own processor makes of the same pictures
harness     sends requests to the engine, one alone or several at once
judge       two runs -> equal, a near tie, or a fault (pure)
checks      the rows of the table
report      rows -> the table, the text of a bug report, JSON
command     vllm-mlx selftest
"""
