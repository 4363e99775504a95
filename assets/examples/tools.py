"""A tool that the model calls, and its result. Start a server first: vllm-mlx serve demo

python assets/examples/tools.py --question "What is the weather in Paris?"
"""

import argparse
import json

from openai import OpenAI

parser = argparse.ArgumentParser()
parser.add_argument("--base-url", default="http://localhost:8000/v1")
parser.add_argument("--question", default="What is the weather in Paris?")
parser.add_argument("--tool-choice", choices=("auto", "required"), default="required")
args = parser.parse_args()


def weather(city: str) -> str:
    return f"12 degrees and rain in {city}"


tool = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
client = OpenAI(base_url=args.base_url, api_key="none")
messages = [{"role": "user", "content": args.question}]
first = client.chat.completions.create(
    model="default", messages=messages, tools=[tool], tool_choice=args.tool_choice, temperature=0
)
message = first.choices[0].message
messages.append(message.model_dump(exclude_none=True))
for call in message.tool_calls or ():
    result = weather(**json.loads(call.function.arguments))
    print(f"{call.function.name}({call.function.arguments}) -> {result}")
    messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
last = client.chat.completions.create(model="default", messages=messages, max_tokens=64, temperature=0)
print("Answer:", last.choices[0].message.content)
