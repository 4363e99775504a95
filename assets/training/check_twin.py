"""Do the training network and mlx-vlm agree? Token ids, positions and logits for text, pictures and clips.

Two halves, because PyTorch and MLX need not live in one environment:
    python check_twin.py mlx CHECKPOINT out.npz      (where mlx-vlm is installed)
    python check_twin.py torch WEIGHTS out.npz       (where PyTorch is; a .pt file or a checkpoint folder)
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np

QUESTIONS = {"text": "Hello", "one": "What is in this image?", "two": "Compare these images.", "clip": "What happens in this video?"}


def chats():
    """The same four chats in both halves: question, scenes and their sizes in visual tokens."""
    import world

    rng = random.Random(4)
    scenes = [world.make_scene(rng, n, 128, 128) for n in (2, 1)]
    clip = world.make_clip(rng, 128, 96)
    images = [np.asarray(world.draw(s, 128, 128, 2)) for s in scenes]
    frames = np.stack([np.asarray(world.draw(clip.at(i / 5), 128, 96, 2)) for i in range(6)])
    return images, frames


def mlx_half(checkpoint, out):
    import mlx.core as mx
    from mlx_vlm import load
    from mlx_vlm.prompt_utils import apply_chat_template
    from PIL import Image

    model, processor = load(checkpoint)
    images, frames = chats()
    store = {}
    for name, question in QUESTIONS.items():
        pictures = {"one": images[:1], "two": images}.get(name, [])
        content = [{"type": "image"} for _ in pictures] + [{"type": "video"}] * (name == "clip") + [{"type": "text", "text": question}]
        prompt = processor.tokenizer.apply_chat_template([{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True)
        keys = {}
        if pictures:
            keys["images"] = [Image.fromarray(p) for p in pictures]
        if name == "clip":
            keys["videos"] = [frames.transpose(0, 3, 1, 2)]
            keys["video_metadata"] = [{"frames_indices": list(range(6)), "fps": 2.0}]
        inputs = processor(text=[prompt], return_tensors="mlx", **keys)
        rest = {k: v for k, v in inputs.items() if k not in ("input_ids", "attention_mask", "pixel_values")}
        rest = {k: mx.array(v) for k, v in rest.items() if not isinstance(v, (list, str))}
        ids = mx.array(inputs["input_ids"])
        pixels = mx.array(inputs["pixel_values"]) if "pixel_values" in inputs else None
        positions, _ = model.language_model.get_rope_index(ids, rest.get("image_grid_thw"), rest.get("video_grid_thw"))
        logits = model(ids, pixels, **rest).logits
        store |= {f"{name} ids": np.array(ids), f"{name} positions": np.array(positions), f"{name} logits": np.array(logits.astype(mx.float32))}
    np.savez(out, **store)


def torch_half(weights, out):
    import torch

    import convert
    import dialogue
    import pixels
    from network import Network

    network = Network()
    if Path(weights).is_dir():
        network.load_state_dict(convert.read(Path(weights)))
    else:
        content = torch.load(weights, weights_only=False)
        network.load_state_dict(content.get("smooth") or content["network"])
    images, frames = chats()
    store = np.load(out)
    for name, question in QUESTIONS.items():
        chat = dialogue.Chat()
        chat.open_user()
        for image in {"one": images[:1], "two": images}.get(name, []):
            chat.visual(dialogue.IMAGE, pixels.patches(np.stack([image, image])[None])[0], 4, 4, pixels.labels(None, 4, 4))
        if name == "clip":
            for i in range(3):
                chat.text(dialogue.encode(f"<{i + 0.25:.1f} seconds>"))
                chat.visual(dialogue.VIDEO, pixels.patches(frames[None, 2 * i : 2 * i + 2])[0], 3, 4, pixels.labels(None, 3, 4))
        chat.close_user(question)
        chat.text([dialogue.START] + dialogue.encode("assistant\n"))
        batch = dialogue.collate([chat])
        with torch.no_grad():
            hidden, *_ = network(batch.ids, batch.positions, batch.groups, batch.where, batch.mask)
            logits = (hidden @ network.language_model.model.embed_tokens.weight.T).numpy()
        same = np.array_equal(store[f"{name} ids"][0], batch.ids[0].numpy())
        positions = store[f"{name} positions"].reshape(-1, 1, logits.shape[1]) if same else None
        places = same and all(np.array_equal(p, q) for p, q in zip(np.broadcast_to(positions, (3, 1, logits.shape[1])), batch.positions.numpy()))
        gap = np.abs(store[f"{name} logits"] - logits).max() if same else None
        print(f"{name}: ids {'equal' if same else 'DIFFER'}, positions {'equal' if places else 'DIFFER'}, largest logit difference {gap}")
        if not same:
            print(store[f"{name} ids"][0].tolist(), batch.ids[0].tolist(), sep="\n")


if __name__ == "__main__":
    {"mlx": mlx_half, "torch": torch_half}[sys.argv[1]](*sys.argv[2:])
