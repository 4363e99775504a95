"""Text in Python, without a server.

python assets/examples/simple_generate.py --model mlx-community/Qwen3-4B-4bit --prompt "The capital of France is"
"""

import argparse

from engine import LLM, MLXLanguageModel, SamplingParams

parser = argparse.ArgumentParser()
parser.add_argument("--model", default="demo", help="demo, a folder or a hub id")
parser.add_argument("--prompt", default="What can you do?")
parser.add_argument("--max-tokens", type=int, default=64)
args = parser.parse_args()

with MLXLanguageModel(args.model) as model:
    print("Answer:", model.chat([{"role": "user", "content": args.prompt}], max_tokens=args.max_tokens))
    print("Continued: ", end="")
    for piece in model.stream_generate(args.prompt, max_tokens=args.max_tokens):
        print(piece, end="", flush=True)
    print()

with LLM(args.model) as llm:  # many prompts are one batch
    prompts = [f"{args.prompt} ({number})" for number in range(1, 5)]
    for output in llm.generate(prompts, SamplingParams(temperature=0, max_tokens=16)):
        print(f"{output.prompt!r} -> {output.outputs[0].text!r}")
