"""Text through OpenAI's client. Start a server first: vllm-mlx serve demo

python assets/examples/demo_openai_text.py --base-url http://localhost:8000/v1
"""

import argparse

from openai import OpenAI

parser = argparse.ArgumentParser()
parser.add_argument("--base-url", default="http://localhost:8000/v1")
parser.add_argument("--prompt", default="What can you do?")
args = parser.parse_args()

client = OpenAI(base_url=args.base_url, api_key="none")
model = client.models.list().data[0].id
messages = [{"role": "user", "content": args.prompt}]

answer = client.chat.completions.create(model=model, messages=messages, max_tokens=64, temperature=0)
print("Answer:", answer.choices[0].message.content)

print("Stream: ", end="")
for chunk in client.chat.completions.create(model=model, messages=messages, max_tokens=64, temperature=0, stream=True):
    print(chunk.choices[0].delta.content or "" if chunk.choices else "", end="", flush=True)
print()
