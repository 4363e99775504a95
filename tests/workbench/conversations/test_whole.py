"""A whole conversation, with all branches and what each answer cost, leaves and comes back the same; and nothing in
such a file is believed that is not what it must be."""

from __future__ import annotations

import copy
import io
import json
import zipfile
from dataclasses import asdict, replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from engine.config import MediaLimits
from engine.errors import BadRequest
from workbench.chat.display import displayed
from workbench.chat.turns import all_entries
from workbench.conversations import imported
from workbench.conversations.imported import read_conversation
from workbench.conversations.json_forms import body_of, turn_from_row
from workbench.conversations.types import Attachment

LOCAL = "http://127.0.0.1"
OURS = {"X-Workbench-Visitor": "a" * 32}
USAGE = {
    **{"prompt_tokens": 41, "completion_tokens": 3, "cached_tokens": 32, "reasoning_tokens": 1},
    **{"accepted_prediction_tokens": 2, "rejected_prediction_tokens": 5},
}
REGION = {
    **{"kind": "box", "px": [1.0, 2.0, 3.0, 4.5], "written": [125.0, 250.0, 375.0, 563.0], "label": "cat"},
    **{"choice": 0, "time_s": 0.5, "is_cut": False},
}
RECEIPT = {
    **{"kind": "image", "num_bytes": 9, "decoded_px": [8, 8], "seen_px": [28, 28], "tokens": 4, "sha256": "ab" * 32},
    **{"frames": [[0, 0.0], [3, 0.5]], "duration_s": 1.5, "fetch_ms": 0.5, "decode_ms": 1.5, "resize_ms": 2.5},
    **{"encode_ms": 3.5, "features": {"hits": 1, "misses": 2}, "notes": ["first of 12 frames"], "param": "cat.png"},
    **{"regions": [REGION], "crop": {"x": 1, "y": 2, "of_px": [80, 60]}},
}
TIMING = {
    **{"media_ms": 1.0, "queue_ms": 2.0, "prefill_ms": 3.0, "ttft_ms": 4.0, "decode_ms": 5.0, "total_ms": 6.0},
    **{"completion_tokens": 3, "prompt_tokens": 41},
}
DESCRIBED = {
    **{"kind": "image", "param": "cat.png", "sha256": "ab" * 32, "text": "A\n<b>cat</b>.", "model": "demo"},
    **{"prompt_tokens": 30, "completion_tokens": 4, "cached_tokens": 16, "seconds": 0.5, "kept": True, "edited": False},
}
DONE = {
    **{"finish_reason": "length", "usage": USAGE, "timing": TIMING, "media": [RECEIPT]},
    "descriptions": [DESCRIBED],
}
PART = {
    **{
        "detail": "low",
        "max_pixels": 4000,
        "exact_px": [28, 56],
        "crop_px": [1, 2, 30, 40],
        "animated": False,
        "label": "page 2",
    },
    "description": "A cat, as its owner says.",
    "frames": {"fps": 2.0, "max_frames": 8, "indices": [0, 3]},
}
CAT = {"kind": "image", "name": "cat.png", "file": "cat.png", "part": PART}
WHOLE: dict[str, Any] = {
    "format": "mlx-workbench conversation",
    "version": 1,
    "title": "A cat",
    "created_s": 1_790_000_000.0,
    "is_pinned": True,
    "settings": {"system": "Be brief.", "temperature": "0"},
    "head": "a2",
    "turns": [
        {"id": "q1", "parent": None, "role": "user", "state": "done", "created_s": 1.0, "text": " What\r\nis\tit? ",
         "attachments": [CAT, {**CAT, "name": "bad.png", "file": "bad.png", "part": None, "broken": "no picture"}]},
        {"id": "a1", "parent": "q1", "role": "assistant", "state": "done", "created_s": 2.0, "text": "A cat 🐈.",
         "reasoning": "Hm.\n", "reasoning_s": 1.25, "done": DONE, "settings": {"max_tokens": "3"},
         "earlier": [{"num_tokens": 2, "done": None}, {"num_tokens": 3, "done": DONE}],
         "tokens": [["A", -0.1, [["A", -0.1], ["The", -2.5]]], [" cat 🐈." * 400, None, []]]},
        {"id": "a2", "parent": "q1", "role": "assistant", "state": "stopped", "created_s": 3.0, "text": "A d",
         "num_tokens": 2},
        {"id": "q2", "parent": "a1", "role": "user", "state": "done", "created_s": 4.0, "text": "And?"},
        {"id": "a3", "parent": "q2", "role": "assistant", "state": "failed", "created_s": 5.0, "error": "no room"},
        {"id": "q1b", "parent": None, "role": "user", "state": "done", "created_s": 6.0, "text": "Other"},
    ],
}  # fmt: skip


def zipped(whole: Any, **files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("conversation.json", json.dumps(whole))
        for name, data in files.items():
            archive.writestr(f"media/{name.replace('_', '.')}", data)
    return out.getvalue()


def unzipped(data: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    return json.loads(files["conversation.json"]), files


def brought(client: TestClient, data: bytes) -> str:
    reply = client.post("/workbench/import?name=chat.zip", content=data, headers=OURS)
    assert reply.status_code == 200, reply.text
    return f"/workbench/conversations/{reply.json()['id']}"


def plain(whole: dict[str, Any]) -> dict[str, Any]:
    """Without what must differ: ids become numbers, and a medium's file is named by its content."""
    out = copy.deepcopy(whole)
    ids = {turn["id"]: number for number, turn in enumerate(out["turns"])} | {None: None}
    out["head"] = ids[out["head"]]
    for turn in out["turns"]:
        turn["id"], turn["parent"] = ids[turn["id"]], ids[turn["parent"]]
        for medium in turn.get("attachments", ()):
            for name in ("file", "sha256", "num_bytes"):
                medium.pop(name, None)
            medium["part"] = {name: value for name, value in (medium["part"] or {}).items() if value is not None}
            medium["part"]["frames"] = {k: v for k, v in medium["part"].get("frames", {}).items() if v is not None}
            medium.setdefault("broken", "")
    return out


def test_all_of_it_comes_back_the_same_also_a_second_time(page_app):
    with TestClient(page_app(), base_url=LOCAL) as client:
        at = brought(client, zipped(WHOLE, cat_png=b"meow", bad_png=b"?"))
        first, files = unzipped(client.get(f"{at}/export.zip", headers=OURS).content)
        assert plain(first) == plain(WHOLE)
        media = {medium["name"]: files[f"media/{medium['file']}"] for medium in first["turns"][0]["attachments"]}
        assert media == {"cat.png": b"meow", "bad.png": b"?"}
        again = brought(client, client.get(f"{at}/export.zip", headers=OURS).content)
        assert again != at
        second, _ = unzipped(client.get(f"{again}/export.zip", headers=OURS).content)
        assert plain(second) == plain(first)
        assert not {turn["id"] for turn in second["turns"]} & {turn["id"] for turn in first["turns"]}
        shown = json.loads(files["messages.json"])["messages"]  # the branch in view, as ever
        assert [message["role"] for message in shown] == ["system", "user", "assistant"]
        token_route = f"{again}/turns/{second['turns'][1]['id']}/tokens"
        assert client.get(token_route, headers=OURS).json() == {"tokens": WHOLE["turns"][1]["tokens"]}
        assert client.get(token_route.replace(again, at), headers=OURS).status_code == 404


def test_imported_receipts_keep_their_hashes_and_say_that_they_are_imported(page_app):
    """After a restart too, and however often they go round."""
    with TestClient(page_app(), base_url=LOCAL) as client:
        at = brought(client, zipped(WHOLE, cat_png=b"meow", bad_png=b"?"))
        again = brought(client, client.get(f"{at}/export.zip", headers=OURS).content)
        answer = unzipped(client.get(f"{again}/export.zip", headers=OURS).content)[0]["turns"][1]
        assert [part["done"] and part["done"]["media"][0]["sha256"] for part in answer["earlier"]] == [None, "ab" * 32]
    (turn,) = [turn for turn in read(WHOLE, cat_png=b"meow").turns if turn.done]
    kept = turn_from_row({**asdict(turn), "body": body_of(turn)})
    assert (kept.done, kept.earlier, kept.is_imported) == (turn.done, turn.earlier, True)
    shown = displayed(all_entries([kept], lambda attachment: ""))[0]["parts"][-1]["receipt"]
    (item,) = shown["items"]
    assert shown["summary"].endswith(" · imported") and item["facts"][-1] == "abababababab"
    assert item["facts"][-2] == "imported: the file says this, and it cannot be checked here"
    ours = displayed(all_entries([replace(kept, is_imported=False)], lambda attachment: ""))[0]["parts"][-1]["receipt"]
    assert "imported" not in json.dumps(ours)


def test_a_conversation_of_which_everything_was_taken_back(page_app):
    with TestClient(page_app(), base_url=LOCAL) as client:
        at = brought(client, zipped({**WHOLE, "head": None}, cat_png=b"meow", bad_png=b"?"))
        assert unzipped(client.get(f"{at}/export.zip", headers=OURS).content)[0]["head"] is None


class Shelf(dict[str, bytes]):
    def add(self, data: bytes, name: str, kind: Any) -> Attachment:
        self[name] = data
        return Attachment(kind, name, "cd" * 32, len(data))


def read(whole: Any, **files: bytes) -> Any:
    return read_conversation(zipped(whole, **files), "chat.zip", Shelf().add, MediaLimits(), 10_000_000)


def changed(path: str, value: Any) -> dict[str, Any]:
    """The file with another value at a path such as turns.1.done.usage."""
    out = copy.deepcopy(WHOLE)
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    inner: Any = out
    for step in way:
        inner = inner[step]
    inner[last] = value
    return out


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("turns.1.parent", "a1"),
        ("turns.0.parent", "q2"),
        ("turns.2.id", "a1"),
        ("turns.1.role", "system"),
        ("turns.1.state", "gone"),
        ("turns.1.created_s", "soon"),
        ("turns.1.text", 5),
        ("turns.1.done.usage", {}),
        ("turns.1.done.timing.ttft_ms", "x"),
        ("turns.1.done.media.0.frames", [["a", "b"]]),
        ("turns.1.done.finish_reason", "bored"),
        ("turns.1.earlier", [{"num_tokens": -1}]),
        ("turns.1.tokens", [["A", "likely", []]]),
        ("turns.1.settings", {"temperature": 0}),
        ("turns.0.attachments.0.kind", "text"),
        ("turns.0.attachments.0.part.max_pixels", 0),
        ("turns.0.attachments.0.part.exact_px", [1]),
        ("turns.0.attachments.0.part.frames", {"fps": "fast"}),
        ("head", "nobody"),
        ("version", 2),
        ("version", "1"),
        ("turns", None),
        ("settings", []),
    ],
)
def test_what_is_wrong_is_named(path, value):
    with pytest.raises(BadRequest) as caught:
        read(changed(path, value))
    named = path if path.startswith("turns.") else path.split(".")[0]
    assert caught.value.param.startswith(named) and caught.value.message.startswith(named)


@pytest.mark.parametrize("value", ["../etc", "AB" * 32, ""])
def test_a_receipt_has_a_content_hash(value):
    with pytest.raises(BadRequest, match=r"turns\.1\.done\.media\.0: sha256: it must be 64 hexadecimal digits"):
        read(changed("turns.1.done.media.0.sha256", value))


def test_a_number_that_is_none_is_refused():
    with pytest.raises(BadRequest, match=r"turns\.1\.created_s"):
        read(changed("turns.1.created_s", float("nan")))


def test_a_hash_or_a_path_in_the_file_leads_nowhere():
    """A medium is the bytes that came with it: not what lies on this machine under a hash or a name."""
    hashed = {**CAT, "sha256": "00" * 32, "num_bytes": 7, "file": "../../etc/passwd"}
    got = read(changed("turns.0.attachments", [hashed]))
    (medium,) = got.turns[0].attachments
    assert (medium.sha256, medium.num_bytes) == ("cd" * 32, 0)
    assert medium.broken == "its file did not come with the conversation"


def test_an_answer_that_was_being_written_is_cut_off():
    assert read(changed("turns.2.state", "writing")).turns[2].state == "cut_off"


def test_fields_of_a_later_version_are_left_out():
    assert read(changed("turns.2.mood", "fine")).turns[2].text == "A d"


def test_half_a_surrogate_pair_becomes_a_question_mark():
    whole = changed("turns.2.text", "A \ud83d d")
    assert read({**whole, "title": "\udc08"}).turns[2].text == "A ? d"


def test_more_media_than_are_read_are_refused(monkeypatch):
    monkeypatch.setattr(imported, "MAX_MEDIA", 2)
    with pytest.raises(BadRequest, match="more than 2 pictures"):
        read(changed("turns.0.attachments", [CAT] * 3), cat_png=b"meow")
