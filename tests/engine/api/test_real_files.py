"""Real files and real clients over a socket: one row for each fault that such a file or client once met, told by what
the receipt says of the file. Where a fault cannot be met in one request, PROVEN names the test that meets it.

The pixels themselves are read back in tests/engine/media; here equal pixels are told by an equal hash.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests import pictures
from tests.engine.media.clip_writer import EVEN, RECIPES, X264, Recipe, write
from tests.engine.media.test_clip_pixels import INTERLACED
from tests.engine.media.test_clip_quirks import STILL, Pipe, remuxed
from tests.engine.media.test_clip_refused import sounding
from tests.engine.media.test_picture_files import LONG_TEXT, PROFILE, chunk, heic, png, saved, tiff

ROOT = Path(__file__).resolve().parents[3]
SALTS = count()
MIDDLE = Recipe("mp4", "libx264", times_s=EVEN[:25], codec=X264 | INTERLACED | {"x264-params": "tff=1"})

PROVEN = {
    "F1": "tests/engine/media/test_child.py::test_two_tenants_in_turn_see_nothing_of_each_other",
    "F18": "tests/engine/media/test_loader.py::test_slow_addresses_of_one_keep_nobody_elses_picture_waiting",
    "F19": "tests/engine/prompt/test_text.py::test_megabytes_are_refused_beside_a_stream_that_goes_on",
    "F20": "tests/engine/media/test_web.py::test_user_and_password_of_a_url_are_used",
    "F23": "tests/engine/api/http/test_limits.py::test_a_line_is_one_line_for_every_reader",
    "F24": "tests/engine/api/http/test_origins.py::test_a_preflight_of_an_allowed_origin",
    "F28": "tests/browser/test_ways_out.py::test_no_way_out_of_a_message_an_answer_or_a_name",
}


def ask(http: httpx.Client, kind: str, data: bytes | str, **fields: Any) -> httpx.Response:
    """A question about a picture ("image") or a clip ("video"). Nothing that was decoded before is at hand."""
    url = data if isinstance(data, str) else pictures.data_url(data, f"{kind}/x")
    content = [{"type": "text", "text": "What is it?"}, {"type": f"{kind}_url", f"{kind}_url": {"url": url}}]
    return post(http, messages=[{"role": "user", "content": content}], **fields)


def post(http: httpx.Client, **body: Any) -> httpx.Response:
    body = {"max_tokens": 1, "temperature": 0, "cache_salt": f"real files {next(SALTS)}"} | body
    return http.post("/v1/chat/completions", json=body)


def receipt(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    (found,) = response.json()["usage"]["media"]
    return found


def times(found: Any) -> list[tuple[int, float]]:
    return [(frame["index"], frame["time"]) for frame in found["frames"]]


def refusal(response: httpx.Response) -> str:
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["param"] in [f"messages[0].content[1].{kind}_url.url" for kind in ("image", "video")]
    return str(error["message"])


@dataclass(frozen=True)
class File:
    """fault: its number in the list. holds: whether what the receipt says is true of the file."""

    fault: str
    name: str
    kind: str
    data: Callable[[], bytes]
    holds: Callable[[Any], bool]
    fields: tuple[tuple[str, Any], ...] = ()


def uneven() -> bytes:
    return write(RECIPES["MP4", "H.264"].but(times_s=STILL, rate=None))


def cut_stream() -> bytes:
    data = write(RECIPES["MPEG-TS", "H.264"])
    return data[len(data) // 3 :]


def one_brand(data: bytes, brand: bytes) -> bytes:
    return data[:8] + brand + data[12:]


def moving() -> bytes:
    frames = pictures.numbered_frames(12)
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)


def ends(found: Any, index: int, time_s: float) -> bool:
    return times(found)[0] == (0, 0.0) and times(found)[-1] == (index, pytest.approx(time_s, abs=0.011))


def same(pixels: np.ndarray) -> Callable[[Any], bool]:
    """The receipt is of exactly these pixels."""
    from engine.media.medium import content_sha256

    return lambda found: found["sha256"] == content_sha256(pixels)


FLAT = np.full((16, 16, 3), 77, np.uint8)
BLUE = np.full((4, 4, 3), (9, 90, 200), np.uint8)
FILES = (
    File("F1", "interlaced", "video", lambda: write(MIDDLE), lambda found: found["decoded"] == [320, 96]),
    File("F2", "no duration", "video", lambda: write(RECIPES["WebM", "VP8"], out=Pipe()), lambda f: ends(f, 59, 2.36)),
    File("F3", "edit list", "video", lambda: remuxed(write(RECIPES["MP4", "H.264"]), "mp4", -17 / 25),
         lambda found: ends(found, 42, 1.68) and found["duration"] == pytest.approx(1.72, abs=0.011)),
    File("F4", "B-frames in AVI", "video", lambda: write(RECIPES["AVI", "MPEG-4"]), lambda f: ends(f, 59, 2.36)),
    File("F5", "cut stream", "video", cut_stream, lambda found: 0.5 < found["duration"] < 2.4
         and found["duration"] == pytest.approx(times(found)[-1][1] + 0.04, abs=0.011)),
    File("F6", "uneven rate", "video", uneven, lambda found: [i for i, _ in times(found)] == [0, 1, 2, 3]),
    File("F6", "a late start", "video", uneven, lambda found: times(found)[-1][0] == 3, (("video_start", 20.05),)),
    File("F7", "wide pixels", "video", lambda: write(RECIPES["MP4", "H.264"].but(aspect=Fraction(2))),
         lambda found: found["decoded"] == [640, 96]),
    File("F8", "MTS", "video", lambda: write(RECIPES["M2TS", "H.264"]), lambda f: ends(f, 59, 2.36)),
    File("F8", "WMV", "video", lambda: write(RECIPES["WMV", "WMV 8"]), lambda f: ends(f, 59, 2.36)),
    File("F9", "a rate beyond all", "video", lambda: write(RECIPES["AVI", "MPEG-4"]),
         lambda found: len(times(found)) == 60, (("video_fps", 120.0),)),
    File("F9", "one frame", "video", lambda: write(RECIPES["AVI", "MPEG-4"]),
         lambda found: len(times(found)) == 2 and times(found)[0] == times(found)[1], (("video_max_frames", 1),)),
    File("F12", "AVIF as mif1", "image", lambda: one_brand(saved(Image.fromarray(FLAT), "AVIF"), b"mif1"),
         lambda found: found["kind"] == "image" and found["decoded"] == [16, 16]),
    File("F12", "HEIC as msf1", "image", lambda: one_brand(heic(Image.new("RGB", (64, 64))), b"msf1"),
         lambda found: found["decoded"] == [64, 64]),
    File("F13", "a long text in a PNG", "image", lambda: png(LONG_TEXT), same(BLUE)),
    File("F13", "a wrong checksum", "image", lambda: png(chunk(b"tEXt", b"a\0b", is_sound=False)),
         lambda found: any("checksum" in note for note in found["notes"])),
    File("F13", "no end mark", "image", lambda: saved(Image.fromarray(FLAT), "JPEG")[:-2],
         lambda found: found["notes"] == ["the file has no end mark, but all of its pixels"]),
    File("F14", "white is zero", "image",
         lambda: tiff(np.full((16, 16), 0xFFFF - 77 * 257), 16, white_is_zero=True), same(FLAT)),
    File("F14", "three pages", "image", lambda: tiff(np.full((16, 16), 77), 8, pages=3),
         lambda found: same(FLAT)(found) and found["notes"][0].startswith("first of 3 pages")),
    File("F15", "a profile", "image", lambda: png(chunk(b"iCCP", PROFILE)),
         lambda found: found["decoded"] == [4, 4] and not same(BLUE)(found)),
    File("F16", "a GIF that moves", "image", moving, lambda found: found["kind"] == "video" and len(times(found)) > 1),
    File("F17", "HEIC", "image", lambda: heic(Image.new("RGB", (64, 64))), lambda found: found["decoded"] == [64, 64]),
    File("F17", "ICO", "image", lambda: saved(Image.fromarray(FLAT), "ICO", sizes=[(16, 16)]), same(FLAT)),
    File("F17", "JPEG 2000", "image", lambda: saved(Image.fromarray(FLAT), "JPEG2000"), same(FLAT)),
)  # fmt: skip


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.fault} {file.name}")
def test_what_people_have_is_read_as_it_is(http: httpx.Client, file: File) -> None:
    found = receipt(ask(http, file.kind, file.data(), **dict(file.fields)))
    assert file.holds(found), found
    assert found["tokens"] > 0


def test_no_row_holds_of_a_file_without_its_quirk(http: httpx.Client) -> None:
    plain = {
        "image": receipt(ask(http, "image", pictures.encode(pictures.picture()))),
        "video": receipt(ask(http, "video", write(RECIPES["MP4", "MPEG-4"].but(times_s=EVEN[:9], size=(96, 96))))),
    }
    blind = [f"{file.fault} {file.name}" for file in FILES if file.holds(plain[file.kind])]
    assert not blind


def test_f1_what_was_decoded_before_is_not_in_it(http: httpx.Client) -> None:
    """The same pixels before and after another's clip of that size."""
    data = write(MIDDLE)
    before = receipt(ask(http, "video", data))
    other = receipt(ask(http, "video", write(RECIPES["MP4", "MPEG-4"])))
    after = receipt(ask(http, "video", data))
    assert before["decoded"] == other["decoded"] and before["sha256"] == after["sha256"] != other["sha256"]


REFUSED = (
    ("F9", "video", lambda: write(RECIPES["AVI", "MPEG-4"]), {"video_start": 1e308}, "the clip lasts 2.4 s"),
    ("F10", "video", lambda: sounding("mp4", "aac"), {}, "only sound, no pictures"),
    ("F10", "video", lambda: sounding("mp4", "aac", "cover"), {}, "a sound with a cover picture"),
    ("F17", "image", lambda: b"\xff\x0a" + bytes(50), {}, "JPEG XL files are not read"),
)


@pytest.mark.parametrize(("fault", "kind", "data", "fields", "words"), REFUSED)
def test_what_is_not_read_is_refused_with_the_true_reason(
    http: httpx.Client, fault: str, kind: str, data: Callable[[], bytes], fields: dict[str, Any], words: str
) -> None:
    assert words in refusal(ask(http, kind, data(), **fields))


@pytest.mark.parametrize("kind", ["AVIF", "PNG", "WEBP", "JPEG", "GIF", "TIFF"])
def test_f11_damage_is_the_files_fault_and_not_ours(http: httpx.Client, kind: str) -> None:
    """A stretch of the payload, flipped: a picture or a reason, never a 500."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8))
    data = bytearray(saved(noise, kind))
    for at in range(len(data) // 2, len(data) // 2 + 24):
        data[at] ^= 0xFF
    response = ask(http, "image", bytes(data))
    assert response.status_code == 200 or "cannot be decoded" in refusal(response)


def test_f16_which_of_three_pictures_is_too_narrow(http: httpx.Client) -> None:
    plain, thin = pictures.picture_url(), pictures.picture_url(size=(2000, 4))
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in (plain, thin, plain)]
    response = post(http, messages=[{"role": "user", "content": parts}])
    assert response.status_code == 400 and response.json()["error"]["param"] == "messages[0].content[1].image_url.url"


def test_f20_a_space_in_a_data_url(http: httpx.Client) -> None:
    assert receipt(ask(http, "image", pictures.picture_url().replace(";base64,", "; base64, ")))["decoded"] == [128, 96]


HELLO = [{"role": "user", "content": "hi"}]
FORMS: dict[str, Any] = {
    "guided_json": {"type": "object"}, "guided_choice": ["a", "b"], "guided_regex": "a+",
    "guided_grammar": 'root ::= "a"', "structured_outputs": {"regex": "a+"}, "json_schema": {"type": "object"},
    "grammar": 'root ::= "a"', "continue_final_message": True, "add_generation_prompt": False,
    "chat_template": "{{ messages }}", "stop_token_ids": [7], "bad_words": ["no"], "ignore_eos": True,
    "mm_processor_kwargs": {"max_pixels": 1}, "media_io_kwargs": {"video": {}}, "truncate_prompt_tokens": 4,
}  # fmt: skip


@pytest.mark.parametrize("field", FORMS)
def test_f21_no_field_is_accepted_and_ignored(http: httpx.Client, field: str) -> None:
    """It is read, or an error names it."""
    response = post(http, messages=HELLO, **{field: FORMS[field]})
    if response.status_code == 200:
        assert field not in response.headers.get("x-ignored-fields", "")
    else:
        assert response.status_code == 400 and response.json()["error"]["param"].startswith(field)


def test_f21_an_option_of_a_part_is_read_or_named(http: httpx.Client) -> None:
    clip = pictures.data_url(write(RECIPES["AVI", "MPEG-4"]), "video/x")
    for option, status in (("nframes", 200), ("num_frames", 400)):
        part = {"type": "video_url", "video_url": {"url": clip}, option: 6}
        response = post(http, messages=[{"role": "user", "content": [part]}])
        assert response.status_code == status, response.text
        if status == 200:
            assert len(times(receipt(response))) == 6
        else:
            assert response.json()["error"]["param"] == f"messages[0].content[0].{option}"


@pytest.mark.parametrize("field", ["images", "image_url"])
def test_f22_pictures_beside_the_content_are_refused(http: httpx.Client, field: str) -> None:
    response = post(http, messages=[{**HELLO[0], field: [pictures.picture_url()]}])
    assert response.status_code == 400 and response.json()["error"]["param"] == f"messages[0].{field}"


def test_f24_head_and_slashes(http: httpx.Client) -> None:
    for path in ("/health", "/v1/models"):
        answer = http.head(path)
        assert answer.status_code == 200 and answer.content == b""
    for path in ("/v1/models/", "//v1//models"):
        assert http.get(http.base_url.copy_with(raw_path=path.encode())).json()["object"] == "list"


def test_f25_next_to_no_temperature_is_none(http: httpx.Client) -> None:
    texts = {
        post(http, messages=HELLO, max_tokens=8, temperature=temperature).json()["choices"][0]["message"]["content"]
        for temperature in (0, 1e-45, 1e-45, 1e-45)
    }
    assert len(texts) == 1


REFUSAL = {"type": "refusal", "refusal": "No."}
SENT_BY_CLIENTS: dict[str, Any] = {
    "a refusal in the history": {"messages": [*HELLO, {"role": "assistant", "content": [REFUSAL]}, *HELLO]},
    "the system alone": {"messages": [{"role": "system", "content": "You are kind."}]},
    "numbers with a point": {"messages": HELLO, "max_tokens": 2.0, "n": 1.0},
    "F27 a special token": {"messages": [{"role": "user", "content": "What is <|im_end|>?"}]},
    "F27 a placeholder in an answer": {"messages": [*HELLO, {"role": "assistant", "content": "<|image_pad|>"}, *HELLO]},
}  # fmt: skip


@pytest.mark.parametrize("name", SENT_BY_CLIENTS)
def test_f26_f27_what_clients_send_is_answered(http: httpx.Client, name: str) -> None:
    response = post(http, **SENT_BY_CLIENTS[name])
    assert response.status_code == 200, response.text


def test_f26_half_a_surrogate(http: httpx.Client) -> None:
    body = b'{"max_tokens": 1, "messages": [{"role": "user", "content": "half \\ud83d"}]}'
    response = http.post("/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("fault", PROVEN)
def test_what_needs_more_than_one_request_is_tested_where_it_says(fault: str) -> None:
    file, _, name = PROVEN[fault].partition("::")
    assert f"def {name}(" in (ROOT / file).read_text()
