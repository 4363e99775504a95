"""The tokenizer: byte-level BPE with 1,024 tokens, trained on the world's own sentences.

All 256 bytes are in it, so any text can be encoded; digits stay single.
"""

from __future__ import annotations

import random
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import language
import world

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
FILE = Path(__file__).with_name("tokenizer.json")


def sentences(rng: random.Random, rounds: int = 5000):
    for _ in range(rounds):
        scenes = [world.make_scene(rng, rng.choice((1, 1, 2, 3)), 400, 400) for _ in "ab"]
        clip = world.make_clip(rng, 400, 300)
        turns = [language.ask_image(rng, scenes[0]) for _ in range(4)] + [language.ask_pair(rng, *scenes), language.ask_talk(rng)]
        turns += [language.ask_clip(rng, clip) for _ in range(2)]
        for turn in turns:
            turn = language.as_typed(rng, turn)
            yield turn.question
            yield turn.answer
        yield f"<{rng.uniform(0, 40):.1f} seconds>"
        yield "user\n"
        yield "assistant\n"
        yield "system\n" + rng.choice(language.SYSTEMS)
    words = language.WORDS + language.NOUNS + language.VERBS
    for _ in range(60):
        yield " ".join(rng.sample(words, len(words)))


def build(size: int = 1024) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(sentences(random.Random(0)), trainer)
    return tokenizer


def load() -> Tokenizer:
    """The trained tokenizer (trained and stored on first use)."""
    if not FILE.exists():
        build().save(str(FILE))
    return Tokenizer.from_file(str(FILE))


if __name__ == "__main__":
    tokenizer = load()
    print(tokenizer.get_vocab_size())
    for text in ("A large red circle at the top left and an orange star in the center.", "<12.3 seconds>", "Pourquoi ? écrire 你好", "What colour is the triangle? Answer in one word."):
        print(tokenizer.encode(text).tokens)
