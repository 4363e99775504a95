"""Pictures through OpenAI's client. Start a server first: vllm-mlx serve demo

python assets/examples/demo_openai_image.py cat.jpg --question "What animal is this?"
"""

import argparse
import base64
import mimetypes
from pathlib import Path

from openai import OpenAI

SAMPLE = Path(__file__).resolve().parents[1] / "samples" / "circle.png"
parser = argparse.ArgumentParser()
parser.add_argument("image", nargs="?", default=str(SAMPLE), help="a file or a URL")
parser.add_argument("--base-url", default="http://localhost:8000/v1")
parser.add_argument("--question", default="What is in this image?")
args = parser.parse_args()

url = args.image
if "://" not in url:  # a file is sent as it is, inside the request
    kind = mimetypes.guess_type(url)[0] or "application/octet-stream"
    url = f"data:{kind};base64,{base64.b64encode(Path(url).read_bytes()).decode()}"

client = OpenAI(base_url=args.base_url, api_key="none")
picture = {"type": "image_url", "image_url": {"url": url}}
messages = [{"role": "user", "content": [picture, {"type": "text", "text": args.question}]}]
answer = client.chat.completions.create(model="default", messages=messages, max_tokens=64, temperature=0)
print("Answer:", answer.choices[0].message.content)
print("The model saw:", answer.usage.model_extra["media"][0])
