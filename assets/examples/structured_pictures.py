"""JSON about pictures, in a form that is always kept to. Start a server first: vllm-mlx serve MODEL

What stands in the form is up to the model: the demo model was never taught JSON, and is mostly wrong in it.

python assets/examples/structured_pictures.py *.jpg
"""

import argparse
import base64
import json
from pathlib import Path

from openai import OpenAI

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
parser = argparse.ArgumentParser()
parser.add_argument("images", nargs="*", default=[str(SAMPLES / "circle.png"), str(SAMPLES / "triangle.png")])
parser.add_argument("--base-url", default="http://localhost:8000/v1")
args = parser.parse_args()

schema = {
    "type": "object",
    "properties": {"shape": {"enum": ["circle", "square", "triangle", "star"]}, "is_red": {"type": "boolean"}},
    "required": ["shape", "is_red"],
    "additionalProperties": False,
}
client = OpenAI(base_url=args.base_url, api_key="none")
for image in args.images:
    url = f"data:;base64,{base64.b64encode(Path(image).read_bytes()).decode()}"
    picture = {"type": "image_url", "image_url": {"url": url}}
    answer = client.chat.completions.create(
        model="default",
        messages=[{"role": "user", "content": [picture, {"type": "text", "text": "What shape is it?"}]}],
        response_format={"type": "json_schema", "json_schema": {"name": "shape", "schema": schema}},
        temperature=0,
    )
    print(Path(image).name, json.loads(answer.choices[0].message.content))
