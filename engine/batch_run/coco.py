"""The boxes of a run as COCO, the form of object detection that trainers and annotation tools read. Pure.

https://cocodataset.org/#format-data: images, annotations with [x, y, width, height] in pixels, categories. Pixels are
those of the picture as it was decoded, upright (MediaReceipt.decoded_px).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.types import Json

COCO = ".coco.json"
"""How the names of such files end."""

UNLABELLED = "object"
"""The category of boxes beside which nothing was written."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What COCO has no place for. rows: answers about no picture; points; boxes without an area."""

    rows: int = 0
    points: int = 0
    empty: int = 0

    def __str__(self) -> str:
        """For example "3 points and 1 box without an area", "" for nothing."""
        rows = f"{self.rows:,} answer{'s' * (self.rows != 1)} about no picture"
        points = f"{self.points:,} point{'s' * (self.points != 1)}"
        empty = f"{self.empty:,} box{'es' * (self.empty != 1)} without an area"
        said = [words for number, words in ((self.rows, rows), (self.points, points), (self.empty, empty)) if number]
        return " and ".join(filter(None, (", ".join(said[:-1]), *said[-1:])))


def coco(records: Sequence[Json]) -> Json:
    """Every picture that was answered about, also without a box; categories by their labels, in order of the alphabet.

    records: engine.batch_run.output.whole_records."""
    pictures = [record for record in records if _is_picture(record)]
    boxes = [(place, box) for place, record in enumerate(pictures, 1) for box in _boxes(record)]
    names = sorted({_category(box) for _, box in boxes})
    ids = {name: number for number, name in enumerate(names, 1)}
    return {
        "info": {"description": "Boxes that a model wrote, by vllm-mlx run"},
        "licenses": [],
        "images": [_image(number, record) for number, record in enumerate(pictures, 1)],
        "annotations": [
            _annotation(number, image, ids[_category(box)], box) for number, (image, box) in enumerate(boxes, 1)
        ],
        "categories": [{"id": ids[name], "name": name, "supercategory": ""} for name in names],
    }


def left_out(records: Sequence[Json]) -> LeftOut:
    """What of the records is not in their COCO."""
    answered = [record for record in records if not record["error"]]
    pictures = [record for record in answered if _is_picture(record)]
    written = [box for record in pictures for one in record["media"] for box in one.get("boxes", ())]
    points = sum(box["kind"] == "point" for box in written)
    kept = sum(1 for record in pictures for _ in _boxes(record))
    return LeftOut(len(answered) - len(pictures), points, len(written) - points - kept)


def has_boxes(record: Json) -> bool:
    """Whether there is an annotation of it. record: as the journal keeps it."""
    return _is_picture(record) and next(_boxes(record), None) is not None


def _is_picture(record: Json) -> bool:
    return not record.get("error") and record.get("medium") == "image" and len(record["media"]) == 1


def _boxes(record: Json) -> Iterator[Json]:
    for one in record["media"]:
        for box in one.get("boxes", ()):
            if box["kind"] == "box" and box["pixels"][2] > box["pixels"][0] and box["pixels"][3] > box["pixels"][1]:
                yield box


def _category(box: Json) -> str:
    return str(box["label"]).strip() or UNLABELLED


def _image(number: int, record: Json) -> Json:
    width, height = record["media"][0]["decoded"]
    return {"id": number, "file_name": record["path"], "width": width, "height": height}


def _annotation(number: int, image: int, category: int, box: Json) -> Json:
    left, top, right, bottom = box["pixels"]
    width, height = round(right - left, 1), round(bottom - top, 1)
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": [left, top, width, height],
        "area": round(width * height, 2),
        "iscrowd": 0,
        "segmentation": [],
    }
