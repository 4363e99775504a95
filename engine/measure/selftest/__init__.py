"""Is it right, on this machine and with this model: the engine held against itself and against the model's processor.

drawn      the test's own pictures and clips, of which every pixel is known
witness    looks on from the engine thread: tokens, log-probabilities, what the model was given
reference      what the model's own processor makes of the same pictures
harness        asks the engine, alone or several at once
judge      two runs -> equal, a near tie, or a fault (pure)
checks     the rows of the table
report     rows -> a table with the sentence to file, and JSON
command    vllm-mlx selftest
"""
