"""How well does a model answer: GSM8K's questions, asked of an engine in this process or of any OpenAI server.

gsm8k      questions, the prompt with its five examples, the number that an answer comes to (pure)
sources    who is asked
run        many questions at once, kept as they come in
command    vllm-mlx eval gsm8k
"""
