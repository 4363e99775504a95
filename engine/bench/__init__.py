"""How fast is it: time to first token, decode rate and memory over N prompts, beside the libraries beneath.

workloads  what is asked: texts and pictures that all differ, so that nothing is reused by accident
sources    who is asked: an Engine in this process, any OpenAI server, mlx_lm or mlx_vlm by themselves
run        asks them in turns and gives one sample per answer
report     samples -> mean, median, p95, ratios; a table and JSON
command    vllm-mlx-bench
"""
