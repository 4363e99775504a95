"""Five kinds of chat through OpenAI's client, with media by URL or from files. Start a server first: vllm-mlx serve demo

python assets/examples/client.py --chat-type text-only|single-image|multi-image|video|audio [FILE or URL ...]
"""

import argparse
import base64
from pathlib import Path

from openai import OpenAI

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
KINDS = {
    "text-only": ("", "What can you do?", []),
    "single-image": ("image_url", "What is in this image?", ["circle.png"]),
    "multi-image": ("image_url", "Compare these images.", ["pair-a.png", "pair-b.png"]),
    "video": ("video_url", "What happens in this video?", ["moving-circle.mp4"]),
    "audio": ("audio_url", "What do you hear?", []),
}
parser = argparse.ArgumentParser()
parser.add_argument("media", nargs="*", help="files or URLs (default: samples that ship with the project)")
parser.add_argument("--chat-type", choices=KINDS, default="single-image")
parser.add_argument("--base-url", default="http://localhost:8000/v1")
parser.add_argument("--question")
parser.add_argument("--max-tokens", type=int, default=64)
args = parser.parse_args()

part_type, question, samples = KINDS[args.chat_type]
media = args.media or [str(SAMPLES / name) for name in samples]
if bool(part_type) != bool(media):
    parser.error(f"{args.chat_type}: " + ("name a file or a URL" if part_type else "it takes no media"))


def url_of(source: str) -> str:
    if "://" in source:
        return source
    return f"data:;base64,{base64.b64encode(Path(source).read_bytes()).decode()}"


content = [{"type": part_type, part_type: {"url": url_of(source)}} for source in media]
content.append({"type": "text", "text": args.question or question})
client = OpenAI(base_url=args.base_url, api_key="none")
answer = client.chat.completions.create(
    model="default", messages=[{"role": "user", "content": content}], max_tokens=args.max_tokens, temperature=0
)
print(answer.choices[0].message.content)
for receipt in (answer.usage.model_extra or {}).get("media", []):
    print(f"{receipt['kind']}: {receipt['tokens']} tokens")
