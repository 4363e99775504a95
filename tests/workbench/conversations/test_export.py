"""What is taken away and brought back: the same text, letter for letter, and nothing that a foreign file asks for."""

from __future__ import annotations

import io
import json
import zipfile

import pytest

from engine.config import MediaLimits
from engine.errors import BadRequest
from engine.types import Kind
from tests.pictures import data_url
from workbench.conversations import export
from workbench.conversations.imported import read_conversation
from workbench.conversations.types import Attachment, Conversation, Turn

PICTURE = b"\x89PNG picture"
CAT = Attachment("image", "my cat].png", "ab" * 32, len(PICTURE))
TRICKY = "## Assistant\n\n<!-- 0123456789ab text -->\n  indented\n\n> quote\n"
CHAT = Conversation("c", "A <title>", 1_790_000_000.0, 1_790_000_000.0, settings={"system": "Be brief."})
TURNS = (
    Turn("1", "user", None, TRICKY, attachments=(CAT,)),
    Turn("2", "assistant", "1", "A cat.\n\n```py\nx = 1\n```", "line one\nline two"),
    Turn("3", "user", "2", "Überall\r\nWörter"),
)


class Shelf(dict):
    """Where media go that are read, and where exports read them."""

    def add(self, data: bytes, name: str, kind: Kind) -> Attachment:
        self[f"{len(self)}"] = (data, name, kind)
        return Attachment(kind, name, "cd" * 32, len(data))


def read(data: bytes, name: str = "chat.json", max_bytes: int = 10_000_000):
    shelf = Shelf()
    return read_conversation(data, name, shelf.add, MediaLimits(), max_bytes), shelf


def content(sha256: str) -> bytes | None:
    return PICTURE if sha256 == CAT.sha256 else None


def test_json_comes_back_with_its_pictures():
    got, shelf = read(export.json_text(CHAT, TURNS, content).encode())
    assert [(turn.role, turn.text, turn.reasoning) for turn in got.turns] == [
        (turn.role, turn.text, turn.reasoning) for turn in TURNS
    ]
    assert [turn.parent for turn in got.turns] == [None, got.turns[0].id, got.turns[1].id]
    assert (got.title, got.settings) == ("A <title>", {"system": "Be brief."})
    assert list(shelf.values()) == [(PICTURE, "picture.png", "image")]


def test_a_zip_comes_back_with_its_pictures():
    data = export.zipped(CHAT, TURNS, TURNS, content)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    names = ["conversation.json", "conversation.md", f"media/{'ab' * 8}.png", "messages.json"]
    assert sorted(files) == names
    got, shelf = read(data, "chat.zip")
    assert [turn.text for turn in got.turns] == [turn.text for turn in TURNS]
    assert list(shelf.values()) == [(PICTURE, "my cat].png", "image")]

    of_other_programs = io.BytesIO()
    with zipfile.ZipFile(of_other_programs, "w") as archive:
        for name in names[1:]:
            archive.writestr(name, files[name])
    got, shelf = read(of_other_programs.getvalue(), "chat.zip")
    assert [turn.text for turn in got.turns] == [turn.text for turn in TURNS]
    assert list(shelf.values()) == [(PICTURE, f"{'ab' * 8}.png", "image")]


def test_markdown_comes_back_letter_for_letter():
    text = export.markdown(CHAT, TURNS)
    assert "*[my cat).png]*" in text and "> line two" in text
    got, _ = read(text.encode(), "chat.md")
    assert [(turn.role, turn.text) for turn in got.turns] == [
        ("user", f"[my cat).png]\n{TRICKY}"),
        ("assistant", TURNS[1].text),
        ("user", TURNS[2].text),
    ]
    assert got.turns[1].reasoning == "line one\nline two" and got.title == "A <title>"


def test_openai_messages_of_other_programs():
    url = data_url(PICTURE)
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "?"}]},
        {"role": "assistant", "content": "!"},
    ]
    got, shelf = read(json.dumps(messages).encode(), "log.json")
    assert [(turn.role, turn.text, len(turn.attachments)) for turn in got.turns] == [
        ("user", "?", 1),
        ("assistant", "!", 0),
    ]
    assert got.title == "log" and len(shelf) == 1


def test_markdown_of_other_programs():
    got, _ = read(b"# My chat\n\n## User\n\nHello\n\n### ChatGPT:\n\nHi\n\n## Not a name\n", "x.md")
    assert [(turn.role, turn.text) for turn in got.turns] == [("user", "Hello"), ("assistant", "Hi\n\n## Not a name")]
    assert got.title == "My chat"


@pytest.mark.parametrize("url", ["https://example.org/x.png", "http://127.0.0.1:1/x.png"])
def test_a_url_of_another_host_is_kept_as_words(url):
    part = {"type": "image_url", "image_url": {"url": url}}
    got, shelf = read(json.dumps([{"role": "user", "content": [part]}]).encode())
    assert got.turns[0].text == f"[picture: {url}]" and not shelf


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff\xfe\x00", "neither"),
        (b"{", "JSON cannot be read"),
        (b"[" * 100_000, "JSON cannot be read"),
        (b'{"messages": 3}', "must be an array"),
        (b'[{"role": "tool", "content": "x"}]', r"messages\[0\].role"),
        (b'[{"role": "user", "content": 3}]', r"messages\[0\].content"),
        (b'[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]', "content"),
        (b"just words", "no messages"),
        (b"PK\x03\x04 broken", "zip cannot be read"),
    ],
)
def test_what_cannot_be_read_says_why(data, words):
    with pytest.raises(BadRequest, match=words):
        read(data)


def test_a_file_path_in_a_message_is_no_file():
    part = {"type": "image_url", "image_url": {"url": "media/../../etc/passwd"}}
    with pytest.raises(BadRequest):
        read(json.dumps([{"role": "user", "content": [part]}]).encode())


def test_a_zip_that_unpacks_to_too_much_is_refused():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("messages.json", " " * 2_000_000)
    with pytest.raises(BadRequest, match="unpacks to more"):
        read(out.getvalue(), "chat.zip", max_bytes=1_000_000)


def test_the_page_to_print_holds_text_as_text():
    evil = Turn("1", "user", None, "<script>alert(1)</script>", attachments=(CAT,))
    page = export.page_to_print(CHAT, (evil,), content)
    assert "<script" not in page and "&lt;script&gt;" in page and "A &lt;title&gt;" in page
    assert 'src="data:image/png;base64,' in page


def test_file_names_are_what_systems_take():
    assert export.file_name(Conversation("c", "a/b: «c»?\n", 0, 0), ".md") == "a b c.md"
    assert export.file_name(Conversation("c", "???", 0, 0), ".zip") == "conversation.zip"


def media_messages(number: int) -> bytes:
    part = {"type": "image_url", "image_url": {"url": "media/a.png"}}
    return json.dumps([{"role": "user", "content": [part] * number}]).encode()


def test_a_picture_that_is_named_a_thousand_times_is_kept_once():
    got, shelf = read(zipped_files({"messages.json": media_messages(1000), "media/a.png": PICTURE}), "chat.zip")
    assert len(got.turns[0].attachments) == 1000 and list(shelf.values()) == [(PICTURE, "a.png", "image")]
    with pytest.raises(BadRequest, match=r"more than 2,000 pictures"):
        read(zipped_files({"messages.json": media_messages(2001), "media/a.png": PICTURE}), "chat.zip")
    tiny = {"type": "image_url", "image_url": {"url": "data:image/png,x"}}
    with pytest.raises(BadRequest, match=r"more than 2,000 pictures"):
        read(json.dumps([{"role": "user", "content": [tiny] * 2001}]).encode())


def test_a_zip_of_too_many_files_is_refused_before_its_list_is_read(monkeypatch):
    data = zipped_files({f"{number}": b"" for number in range(20_001)})
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("its list was read"))
    with pytest.raises(BadRequest, match=r"more than 20,000 files"):
        read(data, "chat.zip")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_with_damaged_data_is_an_error_with_words(method):
    data = bytearray(zipped_files({"messages.json": json.dumps(["x" * 5000]).encode()}, method))
    start = data.index(b"messages.json") + len("messages.json")
    for at in range(start, start + 12):
        data[at] ^= 0xFF
    with pytest.raises(BadRequest, match="The zip cannot be read"):
        read(bytes(data), "chat.zip")


def test_deep_json_and_half_characters_end_nothing():
    deep = '{"a":' * 900 + "1" + "}" * 900
    with pytest.raises(BadRequest):
        read(zipped_files({"messages.json": b"[" * 100_000}), "chat.zip")
    part = f'{{"type": "image_url", "image_url": {{"url": "media/a.png", "x": {deep}}}}}'
    message = f'[{{"role": "user", "content": [{part}]}}]'
    with pytest.raises(BadRequest, match=r"messages\[0\]\.content\[0\]\.image_url\.x: not known"):
        read(zipped_files({"messages.json": message.encode(), "media/a.png": PICTURE}), "chat.zip")
    got, _ = read(rb'{"title": "\ud800", "messages": [{"role": "user", "content": "a\udc00b \ud83d\ude00"}]}')
    assert (got.title, got.turns[0].text) == ("?", "a?b \N{GRINNING FACE}")


def zipped_files(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()
