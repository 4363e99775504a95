"""Pictures and clips in Python, without a server.

python assets/examples/mllm_example.py --model mlx-community/Qwen3-VL-4B-Instruct-4bit --image cat.jpg --video walk.mp4
"""

import argparse

import numpy as np
from PIL import Image

from engine import MLXMultimodalLM
from engine.assets import asset

samples = asset("samples")
parser = argparse.ArgumentParser()
parser.add_argument("--model", default="demo", help="demo, a folder or a hub id")
parser.add_argument("--image", default=str(samples / "circle.png"), help="a file or a URL")
parser.add_argument("--video", default=str(samples / "moving-circle.mp4"), help="a file or a URL")
args = parser.parse_args()

with MLXMultimodalLM(args.model) as model:
    print("Picture:", model.describe_image(args.image, temperature=0))
    answer = model.answer_about_image(args.image, "What color is it?", temperature=0)
    print("Question:", answer, f"({answer.usage.cached_tokens} of {answer.usage.prompt_tokens} tokens were reused)")
    print("Clip:", model.describe_video(args.video, fps=2.0, temperature=0))
    pair = [Image.open(samples / "pair-a.png"), np.asarray(Image.open(samples / "pair-b.png").convert("RGB"))]
    print("Two pictures:", model.generate("Compare these images.", images=pair, temperature=0))
