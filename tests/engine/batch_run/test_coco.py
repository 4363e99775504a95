"""COCO of a run: the form that pycocotools and trainers read, with numbers that were computed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.batch_run.coco import coco, has_boxes, left_out
from engine.batch_run.edited import with_answer
from engine.batch_run.output import check_output, write_output
from engine.batch_run.progress import summary
from engine.batch_run.rows import read_inputs
from engine.batch_run.task import BatchTask
from engine.config import MediaLimits
from engine.types import Json
from tests.engine.api.test_boxes import photo
from tests.engine.batch_run.test_task import run


def check_format(found: Json) -> None:
    """What pycocotools' COCO(…) and COCOeval take for granted, by https://cocodataset.org/#format-data."""
    assert set(found) >= {"images", "annotations", "categories"}
    for part in ("images", "annotations", "categories"):
        ids = [one["id"] for one in found[part]]
        assert len(set(ids)) == len(ids) and all(isinstance(id, int) and id > 0 for id in ids)
    images = {image["id"]: image for image in found["images"]}
    categories = {category["id"] for category in found["categories"]}
    for image in images.values():
        assert isinstance(image["file_name"], str) and image["width"] > 0 and image["height"] > 0
        assert not Path(image["file_name"]).is_absolute()
    for one in found["annotations"]:
        assert one["image_id"] in images, "no such picture"
        image = images[one["image_id"]]
        x, y, width, height = one["bbox"]
        assert one["category_id"] in categories, "no such category"
        assert one["iscrowd"] == 0 and one["segmentation"] == []
        assert x >= 0 and y >= 0 and width > 0 and height > 0
        assert one["area"] == pytest.approx(width * height, abs=0.01), "another area"
        assert x + width <= image["width"] + 0.05 and y + height <= image["height"] + 0.05, "it sticks out"


def box(label: str, *pixels: float, kind: str = "box") -> Json:
    return {"kind": kind, "label": label, "pixels": list(pixels)}


def record(path: str, *boxes: Json, medium: str = "image", error: Any = None) -> Json:
    media = [{"kind": medium, "decoded": [640, 480], "seen": [320, 256], "boxes": list(boxes)}]
    return {"key": path, "path": path, "medium": medium, "media": media, "error": error, "warnings": []}


RECORDS = [
    record("b.png", box("dog", 10, 20, 110.5, 60), box("", 0, 0, 640, 480), box("p", 5, 5, kind="point")),
    record("sub/a.png"),
    record("clip.mp4", box("dog", 1, 2, 3, 4), medium="video"),
    record("bad.png", error={"message": "no"}),
    record("c.png", box("cat", 5, 5, 5, 9), box("cat", 1, 2, 4, 6)),
]


def test_by_hand() -> None:
    found = coco(RECORDS)
    check_format(found)
    assert found["images"] == [
        {"id": 1, "file_name": "b.png", "width": 640, "height": 480},
        {"id": 2, "file_name": "sub/a.png", "width": 640, "height": 480},
        {"id": 3, "file_name": "c.png", "width": 640, "height": 480},
    ]
    assert [(one["id"], one["name"]) for one in found["categories"]] == [(1, "cat"), (2, "dog"), (3, "object")]
    assert [(one["image_id"], one["category_id"], one["bbox"], one["area"]) for one in found["annotations"]] == [
        (1, 2, [10, 20, 100.5, 40], 4020), (1, 3, [0, 0, 640, 480], 307200), (3, 1, [1, 2, 3, 4], 12),
    ]  # fmt: skip
    assert [has_boxes(one) for one in RECORDS] == [True, False, False, False, True]
    assert str(left_out(RECORDS)) == "1 answer about no picture, 1 point and 1 box without an area"
    assert str(left_out(RECORDS[1:2])) == "" and "COCO has no place for 1 answer" in summary(
        RECORDS[2:3], 1, Path("x.coco.json"), None
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"bbox": [10, 20, 110.5, 60]}, "another area"),
        ({"bbox": [600, 0, 60, 67]}, "it sticks out"),
        ({"category_id": 9}, "no such category"),
        ({"image_id": 9}, "no such picture"),
    ],
)
def test_sabotage_the_check_of_the_format_can_fail(change: Json, why: str) -> None:
    """Twin: right and lower edge in place of width and height, and what belongs to nothing."""
    found = coco(RECORDS)
    found["annotations"][0] |= change
    with pytest.raises(AssertionError, match=why):
        check_format(found)


async def test_a_turned_photo_of_a_folder(demo_engine: Any, tmp_path: Path) -> None:
    """From the run to the file: the demo model is made to write the box by a schema that leaves it no choice."""
    folder = tmp_path / "in" / "sub"
    folder.mkdir(parents=True)
    (folder / "turned.png").write_bytes(photo(6))
    numbers = {"enum": [[200, 300, 600, 900]]}
    schema = {"type": "object", "properties": {"bbox_2d": numbers, "label": {"enum": ["bar"]}},
              "required": ["bbox_2d", "label"], "additionalProperties": False}  # fmt: skip
    task = BatchTask("Where is it?", schema=schema, max_tokens=100)
    rows = read_inputs([tmp_path / "in"], MediaLimits()).rows
    (found,) = await run(demo_engine, task, rows, tmp_path / "journal")
    output = tmp_path / "out.coco.json"
    check_output(output)
    write_output(output, [found])
    written = json.loads(output.read_text())
    check_format(written)
    assert written["images"] == [{"id": 1, "file_name": "sub/turned.png", "width": 300, "height": 400}]
    assert [one["bbox"] for one in written["annotations"]] == [[60, 120, 120, 240]]
    assert [one["name"] for one in written["categories"]] == ["bar"]
    corrected = with_answer(found, '{"bbox_2d": [0, 0, 500, 500], "label": "by hand"}')
    assert coco([corrected])["annotations"][0]["bbox"] == [0, 0, 150, 200]
    assert coco([with_answer(corrected, found["answer"])]) == coco([found])
    pixels = {**found, "grounding": {**found["grounding"], "given_in": "original"}}
    assert coco([with_answer(pixels, '"bbox": [0, 0, 150, 200]')])["annotations"][0]["bbox"] == [0, 0, 150, 200]
