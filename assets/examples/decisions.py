"""Many typed questions about one picture, each with probabilities. Start a server first: vllm-mlx serve demo

python assets/examples/decisions.py cat.jpg
"""

import argparse
import base64
from pathlib import Path

from openai import OpenAI

SAMPLE = Path(__file__).resolve().parents[1] / "samples" / "circle.png"
parser = argparse.ArgumentParser()
parser.add_argument("image", nargs="?", default=str(SAMPLE))
parser.add_argument("--base-url", default="http://localhost:8000/v1")
args = parser.parse_args()

url = f"data:;base64,{base64.b64encode(Path(args.image).read_bytes()).decode()}"
colors = [{"value": color} for color in ("red", "green", "blue")]
client = OpenAI(base_url=args.base_url, api_key="none")
decided = client.decisions.create(
    model="default",
    input=[{"role": "user", "content": [{"type": "input_image", "image_url": url}]}],
    questions=[
        {"type": "choice", "name": "color", "instructions": "What color is the circle?", "choices": colors},
        {"type": "predicate", "name": "circle", "instructions": "Is there a circle?"},
    ],
)
for answer in decided.answers:
    print(answer)
print(decided.usage)
