"""Quality of a model's answers: GSM8K's questions, to an engine in this process or to any OpenAI server.

gsm8k      questions, the prompt with its five examples, the number in an answer (pure)
sources    what answers: the engine, a server
run        many questions at once; answers are saved as they arrive
command    vllm-mlx eval gsm8k
"""
