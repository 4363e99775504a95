"""Clips through OpenAI's client. Start a server first: vllm-mlx serve demo

python assets/examples/demo_openai_video.py walk.mp4 --fps 2 --max-frames 16
"""

import argparse
import base64
from pathlib import Path

from openai import OpenAI

SAMPLE = Path(__file__).resolve().parents[1] / "samples" / "moving-circle.mp4"
parser = argparse.ArgumentParser()
parser.add_argument("video", nargs="?", default=str(SAMPLE), help="a file or a URL")
parser.add_argument("--base-url", default="http://localhost:8000/v1")
parser.add_argument("--question", default="What happens in this video?")
parser.add_argument("--fps", type=float, default=2.0, help="frames per second that the model gets")
parser.add_argument("--max-frames", type=int, default=16)
args = parser.parse_args()

url = args.video
if "://" not in url:
    url = f"data:video/mp4;base64,{base64.b64encode(Path(url).read_bytes()).decode()}"

client = OpenAI(base_url=args.base_url, api_key="none")
clip = {"type": "video_url", "video_url": {"url": url}}
answer = client.chat.completions.create(
    model="default",
    messages=[{"role": "user", "content": [clip, {"type": "text", "text": args.question}]}],
    max_tokens=64,
    temperature=0,
    extra_body={"video_fps": args.fps, "video_max_frames": args.max_frames},
)
print("Answer:", answer.choices[0].message.content)
print("Frames at:", [frame["time"] for frame in answer.usage.model_extra["media"][0]["frames"]])
