"""MLXLanguageModel and MLXMultimodalLM: every form of a picture, clip and sound; scripts that end; notebooks."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine import GenerationOutput, MLXLanguageModel, MLXMultimodalLM
from engine.assets import asset
from engine.errors import BadMedia, BadRequest, Unavailable
from engine.offline import shared
from engine.offline.inputs import medium
from engine.types import MediaReceipt, Part, Timing, Usage
from tests.pictures import data_url, encode, numbered_frames, picture
from tests.sounds import tone, wav
from tests.waiting import wait_until

SAMPLES = asset("samples")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def model() -> Iterator[MLXMultimodalLM]:
    with MLXMultimodalLM("demo") as one:
        yield one.load()


@pytest.fixture(scope="module")
def web(serve: Callable[..., Any]) -> Iterator[str]:
    """A server of files on loopback."""
    from starlette.applications import Starlette
    from starlette.staticfiles import StaticFiles

    app = Starlette()
    app.mount("/", StaticFiles(directory=SAMPLES))
    with serve(app) as url:
        yield url


def forms(image: Image.Image, folder: Path) -> dict[str, Any]:
    image.save(folder / "picture.png")
    return {
        "path": str(folder / "picture.png"),
        "Path": folder / "picture.png",
        "file URL": (folder / "picture.png").as_uri(),
        "data URL": data_url(encode(image)),
        "bytes": encode(image),
        "PIL": image,
        "array": np.asarray(image),
        "array with alpha": np.dstack([np.asarray(image), np.full(image.size[::-1], 255, np.uint8)]),
    }


def test_every_form_of_a_picture_is_the_same_picture(model: MLXMultimodalLM, tmp_path: Path) -> None:
    seen = set()
    for name, value in forms(picture("purple", "square"), tmp_path).items():
        answer = model.answer_about_image(value, "What color is it?", temperature=0)
        assert answer.text == "It is purple.", name
        seen.add(answer.media[0].sha256)
    assert len(seen) == 1, "equal pixels are one picture to the cache"


def test_pictures_from_the_web(web: str) -> None:
    with MLXMultimodalLM("demo", allow_private_urls=True) as near:
        answer = near.describe_image(f"{web}/circle.png", temperature=0)
        assert answer.text == "A large red circle in the center."
        assert near.describe_video(f"{web}/moving-circle.mp4", temperature=0).text == "A red circle moves to the right."


def test_addresses_of_this_network_are_refused_by_default(model: MLXMultimodalLM, web: str) -> None:
    with pytest.raises(BadMedia, match="private"):
        model.describe_image(f"{web}/circle.png")


def test_every_form_of_a_clip(model: MLXMultimodalLM) -> None:
    frames = [picture_at(x) for x in range(8, 88, 10)]
    array = np.stack([np.asarray(frame) for frame in frames])
    clips: list[Any] = [frames, array, (frames, 4.0), (array, {"fps": 4})]
    answers = [model.describe_video(clip, temperature=0) for clip in clips]
    assert {answer.text for answer in answers} == {"A red circle moves to the right."}
    times = [[time_s for _, time_s in answer.media[0].frames] for answer in answers]
    assert times[2] == times[3] == [i / 4 for i in range(8)]
    file = model.generate("What happens in this video?", videos=[SAMPLES / "growing-star.mp4"], temperature=0)
    assert file.text == "A yellow star grows."


def picture_at(left: int) -> Image.Image:
    image = Image.new("RGB", (128, 96), (244, 244, 244))
    image.paste((255, 0, 0), (left, 32, left + 30, 62), Image.fromarray(_disc(30)))
    return image


def _disc(size: int) -> np.ndarray[Any, Any]:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return np.where(x**2 + y**2 <= (size / 2) ** 2, 255, 0).astype(np.uint8)


def test_the_rate_and_number_of_frames(model: MLXMultimodalLM) -> None:
    clip = SAMPLES / "moving-circle.mp4"
    few = model.describe_video(clip, fps=8.0, video_max_frames=4, temperature=0)
    many = model.generate(
        "What happens in this video?", videos=[clip], video_fps=8.0, video_max_frames=12, temperature=0
    )
    assert len(few.media[0].frames) == 4 < len(many.media[0].frames) <= 12


async def test_every_form_of_a_sound_is_the_same_sound(tmp_path: Path) -> None:
    """The loader of the engine reads them: the demo model does not hear."""
    from engine.config import MediaLimits
    from engine.media.read_medium import load_media
    from engine.types import FrameSampling

    samples = tone().astype(np.float32)
    (tmp_path / "tone.wav").write_bytes(wav(samples))
    made = [
        medium("audio", value, "audios[0]") for value in (tmp_path / "tone.wav", (tmp_path / "tone.wav").read_bytes())
    ]
    first, second = (load_media(part, MediaLimits(), FrameSampling()) for part in made)
    assert first.sha256 == second.sha256
    exact = load_media(medium("audio", (samples, 16_000), "audios[0]"), MediaLimits(), FrameSampling())
    assert exact.sample_hz == 16_000 and np.array_equal(exact.samples, samples)


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("image", 3, "a picture is a path, a URL, bytes, a PIL image or a numpy array, not int"),
        ("image", np.zeros((4, 4, 3)), "an array must be uint8"),
        ("image", np.zeros((4,), np.uint8), "an array must be uint8"),
        ("video", [], "a clip is a path"),
        ("video", 3, "a clip is a path"),
        ("video", ([picture()], 0), "must be more than 0"),
        ("video", ("clip.mp4", 2.0), "a file knows its rate"),
        ("audio", np.zeros(8, np.float32), r"\(samples, rate\)"),
        ("audio", (np.zeros((2, 8), np.float32), 8000), r"\(N,\)"),
        ("audio", (np.zeros(8, np.float32), 0.5), "whole number"),
    ],
)
def test_other_forms_are_refused_in_words(kind: Any, value: Any, words: str) -> None:
    with pytest.raises(BadRequest, match=words) as refused:
        medium(kind, value, "images[0]")
    assert str(refused.value.param).startswith("images[0]")


def test_a_path_is_expanded_and_one_that_is_not_there_is_named(model: MLXMultimodalLM) -> None:
    assert medium("image", "~/cat.png", "x") == Part("image", path=str(Path.home() / "cat.png"), param="x")
    with pytest.raises(BadMedia, match=r"there is no file 'cat\.png'"):
        model.describe_image("nowhere/cat.png")


def test_the_language_model_continues_and_chats(model: MLXMultimodalLM) -> None:
    words = MLXLanguageModel("demo")
    assert words._shared is model._shared, "they share the model"
    whole = words.generate("What color is", max_tokens=6, temperature=0)
    pieces = list(words.stream_generate("What color is", max_tokens=6, temperature=0))
    assert "".join(map(str, pieces)) == whole.text == str(whole)
    assert tuple(id for piece in pieces for id in piece.token_ids) == whole.token_ids
    assert [piece.finished for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    asked = [{"role": "user", "content": "Who are you?"}]
    answer = words.chat(asked, max_tokens=32, temperature=0)
    assert answer.text == "".join(map(str, words.stream_chat(asked, max_tokens=32, temperature=0)))
    assert answer.text != words.generate("Who are you?", max_tokens=32, temperature=0).text, "the template counts"
    with pytest.raises(BadRequest, match="stream: this keyword is not known"):
        words.generate("a", stream=True)


def test_a_stream_that_is_left_ends_its_request(model: MLXMultimodalLM) -> None:
    stream = model.stream_generate("Describe this image.", images=[picture()], max_tokens=500, ignore_eos=True)
    next(stream)
    stream.close()
    snapshot = model._shared.engine.snapshot
    wait_until(lambda: snapshot().totals.cancelled, "the request goes on")
    assert not snapshot().running


async def test_it_works_beside_a_loop_that_runs(model: MLXMultimodalLM) -> None:
    """As in a notebook: the caller's thread runs a loop already."""
    assert asyncio.get_running_loop().is_running()
    answer = model.describe_image(SAMPLES / "circle.png", temperature=0)
    assert answer.text == "A large red circle in the center."


def test_a_notebook_shows_the_receipts(model: MLXMultimodalLM) -> None:
    html = model.describe_image(SAMPLES / "circle.png", temperature=0)._repr_html_()
    assert "A large red circle" in html and "480 × 480 px came, the model saw 128 × 128 px" in html
    assert 'src="data:image/png;base64,' in html and "16 tokens" in html


def test_nothing_from_outside_is_markup() -> None:
    evil = "<img src=x onerror=alert(1)>\"'&"
    receipt = MediaReceipt("image", 1, (1, 1), (1, 1), 1, "", notes=(evil,), param=evil)
    html = GenerationOutput(evil, (), "stop", Usage(1, 1), Timing(), media=(receipt,), thumbnails=(None,))._repr_html_()
    assert "<img" not in html and html.count("&lt;img src=x onerror=alert(1)&gt;&quot;&#x27;&amp;") == 3


def test_a_model_that_nobody_holds_leaves_memory() -> None:
    held = MLXLanguageModel("demo", max_model_len=999).load()
    engine = held._shared.engine
    threads = {thread for thread in threading.enumerate() if thread.name == "offline"}
    del held
    gc.collect()
    wait_until(lambda: engine.snapshot().state == "stopped", "the engine goes on")
    wait_until(lambda: any(not thread.is_alive() for thread in threads), "its loop goes on")
    assert all(kept.engine is not engine for kept in shared._engines.values())


def test_after_close_it_says_so() -> None:
    never = MLXLanguageModel("demo")
    never.close()
    with pytest.raises(Unavailable, match="closed"):
        never.load()
    closed = MLXLanguageModel("demo", max_model_len=998)
    closed.load()
    closed.close()
    with pytest.raises(Unavailable, match="closed"):
        closed.generate("a")


@pytest.mark.parametrize(
    "script",
    [
        "from engine import MLXMultimodalLM as M; print(M('demo').describe_image('{}', temperature=0))",
        "from engine import MLXMultimodalLM as M; m = M('demo'); next(m.stream_generate('Hi', max_tokens=500)); "
        "print(m.describe_image('{}', temperature=0))",
        "from engine import LLM, MLXMultimodalLM as M; llm = LLM('demo'); m = M('demo'); "
        "print(m.describe_image('{}', temperature=0)); raise SystemExit(0)",
    ],
    ids=["dropped at once", "a stream left open", "both kept"],
)
def test_a_script_that_closes_nothing_ends_by_itself(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script.format(SAMPLES / "circle.png")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "A large red circle in the center.\n"
    assert "Traceback" not in done.stderr and "terminate called" not in done.stderr


def test_a_list_of_frames_is_one_clip(model: MLXMultimodalLM) -> None:
    answer = model.generate("What happens in this video?", videos=[numbered_frames(6)], temperature=0, max_tokens=8)
    assert len(answer.media) == 1 and len(answer.media[0].frames) == 6
