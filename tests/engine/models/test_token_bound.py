"""token_bound: a proof that a text has at least so many tokens; silent where a tokenizer may lose what it reads."""

from __future__ import annotations

import random
import time
import unicodedata
from dataclasses import replace
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from engine.models.token_bound import TokenBound, token_bound
from tests.tiny import _bpe_json

CORPUS = ["the cat sat on the mat and the other cat " * 20, "def f(x):\n        return x\n" * 40, "naïve café 한국어 "]
TEXTS = [
    "the cat sat on the mat " * 500,
    " " * 20_000,
    "\n\n\n        " * 3000,
    "日本語のテキスト" * 1000,
    "e\u0301" * 5000,  # composed by NFC: half as many characters
    "\u1112\u1161\u11ab" * 2000,  # three letters that NFC makes one syllable
    "\u212a" * 3000,  # KELVIN SIGN, three bytes, becomes K, one byte
    "=" * 9000,
    "".join(random.Random(7).choices("abcdefghij XYZ0123456789.,;é漢\n", k=20_000)),
]


def byte_level(normalizer: Any = None, corpus: list[str] = CORPUS) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet))
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def sentence_pieces(*, byte_fallback: bool = True) -> PreTrainedTokenizerFast:
    """As llama's and gemma's: spaces become another character, what is unknown becomes its bytes."""
    characters = [chr(c) for c in range(32, 127)]
    vocabulary = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁▁", "▁▁▁▁", *characters, "ca", "cat"]
    merges = [("▁", "▁"), ("▁▁", "▁▁"), ("c", "a"), ("ca", "t")]
    model = models.BPE(
        {token: i for i, token in enumerate(dict.fromkeys(vocabulary))},
        merges,
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=byte_fallback,
    )
    backend = Tokenizer(model)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


TOKENIZERS = {
    "byte_level": byte_level,
    "nfc": lambda: byte_level(normalizers.NFC()),
    "nfkc": lambda: byte_level(normalizers.Sequence([normalizers.NFKC()])),
    "sentence_pieces": sentence_pieces,
    "tests": lambda: PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(_bpe_json())),
}


def check_is_a_proof(tokenizer: Any, bound: TokenBound, texts: list[str] = TEXTS) -> None:
    for text in texts:
        num_tokens = len(tokenizer.encode(text))
        fewest, reason = bound.fewest(text)
        assert 0 < fewest <= num_tokens, f"{text[:8]!r}: {num_tokens} tokens, and {reason}"


@pytest.mark.parametrize("name", TOKENIZERS)
def test_no_text_has_fewer_tokens(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    bound = token_bound(tokenizer)
    assert bound.max_bytes > 0 and bound.max_letters > 0
    check_is_a_proof(tokenizer, bound)


def test_sabotage_a_text_that_is_not_normalized_first_is_seen() -> None:
    """Its letters come apart, in three times the bytes of the longest token."""
    tokenizer = byte_level(normalizers.NFC(), ["한국어 " * 400])
    bound, apart = token_bound(tokenizer), [unicodedata.normalize("NFD", "한국어 " * 400)]
    check_is_a_proof(tokenizer, replace(bound, max_letters=0), apart)
    with pytest.raises(AssertionError, match="tokens, and"):
        check_is_a_proof(tokenizer, replace(bound, max_letters=0, forms=()), apart)


def test_letters_prove_more_where_white_space_is_the_longest_token() -> None:
    tokenizer = byte_level()
    tokenizer.add_tokens(["\n" * 400])
    bound = token_bound(tokenizer)
    assert bound.max_bytes == 400 > bound.max_letters
    assert bound.fewest(TEXTS[0]).num_tokens > len(TEXTS[0]) // 20


def unknown_is_dropped() -> Any:
    return sentence_pieces(byte_fallback=False)


def white_space_is_dropped() -> Any:
    tokenizer = byte_level()
    tokenizer.add_special_tokens({"additional_special_tokens": [AddedToken("<|user|>", rstrip=True)]})
    return tokenizer


def test_bytes_prove_nothing_where_some_may_be_lost() -> None:
    """A thousand spaces behind a token that strips them, or a thousand unknown characters, are no token at all."""
    for make, text in ((unknown_is_dropped, "漢" * 1000), (white_space_is_dropped, "<|user|>" + " " * 1000)):
        tokenizer = make()
        bound = token_bound(tokenizer)
        assert len(tokenizer.encode(text)) < 5
        assert bound.max_bytes == 0 < bound.max_letters
        assert bound.fewest(text).num_tokens < 5


def word_pieces() -> Any:
    backend = Tokenizer(models.WordPiece({"[UNK]": 0, "cat": 1}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")


def test_of_other_tokenizers_nothing_is_said() -> None:
    lower = byte_level(normalizers.Sequence([normalizers.Lowercase(), normalizers.StripAccents()]))
    for tokenizer in (word_pieces(), lower, object()):
        assert token_bound(tokenizer) == TokenBound()
        assert token_bound(tokenizer).fewest("a" * 10**6).num_tokens == 0


def test_counting_is_no_tokenizing() -> None:
    """12 MB are counted sooner than a twentieth of them is tokenized."""
    tokenizer = byte_level(normalizers.NFC())
    bound, text = token_bound(tokenizer), "word " * 2_400_000

    def seconds(work: Any, argument: str) -> float:
        started_s = time.perf_counter()
        work(argument)
        return time.perf_counter() - started_s

    counting_s = min(seconds(bound.fewest, text) for _ in range(3))
    assert counting_s < seconds(tokenizer.encode, text[: len(text) // 20])
