"""Documents as pictures and texts: every page the right one, and what cannot be read refused in words."""

from __future__ import annotations

import io
import os
import signal
import struct
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.config import MediaLimits
from engine.errors import BadMedia
from engine.media import pdf as pdf_reader
from engine.media.document import PAGE_PIXELS, document_parts
from engine.media.fetch import read_data_url
from engine.media.image import decode_image
from engine.media.pdf import Wanted, page_numbers, render_apart
from engine.media.tiff import TiffFile
from engine.types import PageChoice, Part
from tests import pictures
from tests.pdfs import locked, pdf

PART = Part("document", param="messages[0].content[0].file.file_data", document=PageChoice("report.pdf"))
LIMITS = MediaLimits()
RED, GREEN, BLUE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


def asking(**choice: Any) -> Part:
    return replace(PART, document=PageChoice(**{"name": "report.pdf", **choice}))


def pixels(part: Part) -> np.ndarray:
    return decode_image(part, read_data_url(part, part.url or "", LIMITS), LIMITS).pixels


def refused(data: bytes, part: Part = PART, limits: MediaLimits = LIMITS) -> str:
    with pytest.raises(BadMedia) as caught:
        document_parts(part, data, limits)
    assert caught.value.param == PART.param and caught.value.message.startswith(PART.param)
    return caught.value.message


def test_every_page_is_a_picture_with_its_place() -> None:
    parts = document_parts(PART, pdf([RED, GREEN, BLUE]), LIMITS)
    assert [part.kind for part in parts] == ["text", "image"] * 3
    assert [part.text for part in parts[::2]] == [f"report.pdf, page {n} of 3:" for n in (1, 2, 3)]
    for part, colour in zip(parts[1::2], (RED, GREEN, BLUE), strict=True):
        seen = pixels(part)
        height, width, _ = seen.shape
        assert seen[height // 2, width // 4].tolist() == [255 * share for share in colour]
        assert seen[height // 2, -1].tolist() == [255, 255, 255]
        assert width == pytest.approx(2 * height, rel=0.01)
    assert parts[3].label == "report.pdf, page 2 of 3"


@pytest.mark.parametrize("budget", [None, 50_000, 1_000_000])
def test_pages_have_the_pixels_that_are_asked_for(budget: int | None) -> None:
    """A large page fills the budget; a small one is not blown up beyond 300 dots per inch."""
    large = document_parts(replace(PART, max_pixels=budget), pdf([RED], size_pt=(1200, 900)), LIMITS)[1]
    most = budget or PAGE_PIXELS
    assert 0.97 * most < pixels(large)[..., 0].size <= most
    small = document_parts(replace(PART, max_pixels=budget), pdf([RED], size_pt=(72, 36)), LIMITS)[1]
    height, width, _ = pixels(small).shape
    assert width * height <= min(most, 300 * 150)
    assert large.max_pixels == budget


def test_the_text_behind_a_page_comes_where_it_is_asked_for() -> None:
    data = pdf([RED, GREEN], ["First words", "Second words"])
    parts = document_parts(asking(with_text=True), data, LIMITS)
    assert [part.text for part in parts if part.kind == "text"][1::2] == [
        "Text of page 1:\nFirst words",
        "Text of page 2:\nSecond words",
    ]
    assert not any("words" in part.text for part in document_parts(PART, data, LIMITS))


def test_pages_are_chosen() -> None:
    parts = document_parts(asking(pages="3, 1-2"), pdf([RED, GREEN, BLUE]), LIMITS)
    assert [part.text for part in parts[::2]] == [f"report.pdf, page {n} of 3:" for n in (3, 1, 2)]
    assert pixels(parts[1])[5, 5].tolist() == [0, 0, 255]


def test_page_numbers() -> None:
    assert page_numbers("", 3, 9) == [1, 2, 3]
    assert page_numbers("2-3,1,3", 3, 9) == [2, 3, 1]
    for wrong in ("0", "4", "2-9", "3-2", "1-1000000"):
        with pytest.raises(ValueError, match="the document has 3"):
            page_numbers(wrong, 3, 9)
    with pytest.raises(ValueError, match='5 pages are too many, at most 2 are allowed; name some: pages "1-2"'):
        page_numbers("", 5, 2)


def test_what_cannot_be_shown_is_said() -> None:
    three = pdf([RED, GREEN, BLUE])
    assert "there are no pages 4: the document has 3" in refused(three, asking(pages="4"))
    assert "3 pages are too many, at most 2" in refused(three, limits=MediaLimits(max_pages=2))
    assert "3 pages are too many, at most 2" in refused(three, limits=MediaLimits(max_images=2))
    assert "wants a password" in refused(locked())
    assert "the PDF is damaged" in refused(b"%PDF-1.7\n" + bytes(100))
    assert "is empty" in refused(b"")
    assert "a clip (MP4); send it as video_url" in refused(b"\x00\x00\x00\x18ftypisom" + b"\xff" * 20)
    assert "a ZIP archive (Office documents are such) is not read" in refused(b"PK\x03\x04" + b"\xff" * 20)
    assert "data of an unknown format is not read" in refused(b"\x00\xff\xfe")
    assert "pages can be chosen of a PDF or a TIFF only" in refused(b"words", asking(pages="1"))
    assert "neither UTF-8 nor marked as UTF-16; save it as UTF-8" in refused("Größe;1".encode("latin-1"))


def tiff(*pages: Image.Image, **options: Any) -> bytes:
    first, *others = pages
    out = io.BytesIO()
    first.save(out, "TIFF", save_all=True, append_images=others, **options)
    return out.getvalue()


def flat(colour: str, size: tuple[int, int] = (60, 40)) -> Image.Image:
    return Image.new("RGB", size, colour)


def middles(parts: tuple[Part, ...]) -> list[list[int]]:
    return [seen[seen.shape[0] // 2, seen.shape[1] // 2].tolist() for part in parts[1::2] for seen in [pixels(part)]]


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}, {"big_tiff": True}])
def test_every_page_of_a_tiff_is_a_picture(options: dict[str, Any]) -> None:
    data = tiff(flat("red"), flat("lime", (50, 90)), flat("blue"), **options)
    parts = document_parts(asking(name="scan.tif"), data, LIMITS)
    assert [part.text for part in parts[::2]] == [f"scan.tif, page {n} of 3:" for n in (1, 2, 3)]
    assert middles(parts) == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    assert pixels(parts[3]).shape == (90, 50, 3) and parts[3].label == "scan.tif, page 2 of 3"
    assert middles(document_parts(asking(pages="3,1"), data, LIMITS)) == [[0, 0, 255], [255, 0, 0]]
    assert "there are no pages 4: the document has 3" in refused(data, asking(pages="4"))
    assert "3 pages are too many, at most 2" in refused(data, limits=MediaLimits(max_images=2))


def test_a_tiff_of_one_page_is_a_picture_and_thumbnails_are_no_pages() -> None:
    (picture,) = document_parts(replace(asking(), url="data:,x"), tiff(flat("red")), LIMITS)
    assert picture.kind == "image"
    two = bytearray(tiff(flat("red"), flat("blue")))
    assert len(document_parts(asking(), bytes(two), LIMITS)) == 4
    page = TiffFile(bytes(two)).pages()[1]
    entry = page.places[256] - 8  # its first tag becomes NewSubfileType: 1, a small copy
    struct.pack_into("<HHIHH", two, entry, 254, 3, 1, 1, 0)
    assert [part.kind for part in document_parts(replace(asking(), url="data:,x"), bytes(two), LIMITS)] == ["image"]


def test_deep_gray_on_a_later_page_and_pages_that_are_large_or_damaged() -> None:
    deep = Image.fromarray(np.full((40, 60), 0xFFFF, np.uint16))
    assert middles(document_parts(PART, tiff(deep, deep), LIMITS)) == [[255] * 3] * 2
    large = document_parts(PART, tiff(flat("red", (3000, 2000)), flat("blue")), LIMITS)
    assert 0.97 * PAGE_PIXELS < pixels(large[1])[..., 0].size <= PAGE_PIXELS
    whole = tiff(flat("red"), flat("blue"), compression="tiff_lzw")
    for share in np.linspace(0.05, 0.95, 12):
        with suppress(BadMedia):
            document_parts(replace(PART, url="data:,x"), whole[: int(len(whole) * share)], LIMITS)


def test_pages_that_lead_back_to_themselves_end() -> None:
    data = bytearray(tiff(flat("red"), flat("blue")))
    first, second = TiffFile(bytes(data)).pages()
    struct.pack_into("<I", data, second.next_at, first.at)
    assert len(document_parts(PART, bytes(data), LIMITS)) == 4


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"# Title\n\nWords", "# Title\n\nWords"),
        ("a;b\nä;ö".encode("utf-8-sig"), "a;b\nä;ö"),
        ("käse".encode("utf-16"), "käse"),
        ("käse".encode("utf-32"), "käse"),
        ("käse".encode("utf-16-be").join((b"\xfe\xff", b"")), "käse"),
        (b"BMW,ID3\n1,2", "BMW,ID3\n1,2"),
        (b"<svg xmlns='x'/>", "<svg xmlns='x'/>"),
        (b"the mark %PDF-1.4 opens a PDF", "the mark %PDF-1.4 opens a PDF"),
    ],
)
def test_texts_go_in_with_their_names(data: bytes, text: str) -> None:
    """Also such as begin like a picture or a sound."""
    (part,) = document_parts(asking(name="notes.md"), data, LIMITS)
    assert part == Part("text", text=f"notes.md:\n{text}", param=PART.param)


def test_a_picture_sent_as_a_file_is_a_picture() -> None:
    part = replace(asking(name="a.png"), url=pictures.picture_url())
    (picture,) = document_parts(part, pictures.encode(pictures.picture()), LIMITS)
    assert picture == Part("image", url=part.url, label="a.png", param=PART.param)


def test_flipped_bits_end_in_pages_or_in_words() -> None:
    whole, random = pdf([RED, GREEN], ["one", "two"]), np.random.default_rng(3)
    for _ in range(12):
        data = bytearray(whole)
        for at in random.integers(0, len(data), 4):
            data[at] ^= 1 << int(random.integers(8))
        try:
            render_apart(PART, bytes(data), Wanted("", 10, 10_000, True), LIMITS)
        except BadMedia as error:
            assert error.message.startswith(PART.param)


def test_a_reader_that_dies_or_hangs_ends_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real child, ended from outside right after its start, and one that is stopped and answers nothing."""
    start = pdf_reader.subprocess.Popen
    started: list[Any] = []

    def and_then(number: int) -> Any:
        def popen(*args: Any, **options: Any) -> Any:
            started.append(start(*args, **options))
            os.kill(started[-1].pid, number)
            return started[-1]

        return popen

    monkeypatch.setattr(pdf_reader.subprocess, "Popen", and_then(signal.SIGKILL))
    assert "the process that reads it ended" in refused(pdf([RED]))
    monkeypatch.setattr(pdf_reader.subprocess, "Popen", and_then(signal.SIGSTOP))
    monkeypatch.setattr(pdf_reader, "GRACE_S", 0.2)
    assert "took longer than 0.3 s" in refused(pdf([RED]), limits=MediaLimits(decode_timeout_s=0.3))
    assert all(process.poll() is not None for process in started), "a process was left behind"


def test_what_comes_back_is_bounded() -> None:
    assert "the process that reads it ended" in refused(pdf([RED]), limits=MediaLimits(max_request_bytes=2000))


def test_memory_of_the_reader_is_bounded() -> None:
    """A page whose picture alone would take 3 GB."""
    part = replace(PART, max_pixels=700_000_000)
    huge = pdf([RED], size_pt=(14_000, 14_000))
    limits = MediaLimits(decode_memory_bytes=1 << 30)
    assert "memory" in refused(huge, part, limits) or "damaged" in refused(huge, part, limits)
