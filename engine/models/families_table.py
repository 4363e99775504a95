"""The families table for people. Pure: `vllm-mlx families` prints it; a test keeps assets/docs/families.md equal."""

from __future__ import annotations

import argparse
from dataclasses import astuple, dataclass, fields

from engine.media.codecs import codec_table
from engine.models.families import FAMILIES, Family


def parser() -> argparse.ArgumentParser:
    """vllm-mlx families."""
    return argparse.ArgumentParser(
        prog="vllm-mlx families",
        description="Print the families of models that have something to be said: what each takes and how it runs. "
        "Others are tried as plain causal models, those that see with one picture at a time.",
    )


def run(args: argparse.Namespace) -> None:
    print(f"{markdown()}\n\nClips that are read:\n\n{codec_table()}")


@dataclass(frozen=True, slots=True)
class Line:
    """One family as it is shown; the names of the fields are the columns."""

    family: str
    model_type: str
    pictures: str
    clips: str
    sound: str
    decodes: str
    prefix_cache: str
    vision_features: str
    note: str


def table() -> list[Line]:
    """Families that run, then those that do not, with the reason."""
    rows = sorted(FAMILIES.items(), key=lambda item: bool(item[1].refused))
    return [_line(model_type, row) for model_type, row in rows]


def markdown() -> str:
    """The table in Markdown, one line per family."""
    names = [field.name.replace("_", " ") for field in fields(Line)]
    names[1] = "`model_type`"
    lines = [names, ["---"] * len(names), *([*astuple(line)] for line in table())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _line(model_type: str, row: Family) -> Line:
    code = f"`{model_type}`"
    if row.refused:
        return Line(row.name, code, "–", "–", "–", "–", "–", "–", f"refused: {row.refused}")
    sees = row.note != "text only"
    untested = [] if row.tested else ["not among the tests"]
    return Line(
        family=row.name,
        model_type=code,
        pictures=_count(row.images_per_prompt) if sees else "no",
        clips=_clips(row) if sees else "no",
        sound=_sound(row),
        decodes="one at a time" if row.serial else "in a batch",
        prefix_cache="none" if row.whole_prompt else "snapshots" if row.snapshots else "blocks",
        vision_features=_features(row) if sees else "–",
        note="; ".join([*untested, *filter(None, [row.note])]),
    )


def _count(most: int | None) -> str:
    return "any number" if most is None else str(most)


def _clips(row: Family) -> str:
    if row.native_video:
        return "native"
    return "as labelled frames" if row.images_per_prompt is None else "no"


def _features(row: Family) -> str:
    """What is kept of the vision tower's work, for when KV is gone. Of pairs a clip at another rate has few of the old:
    each frame has another neighbour then, and maybe another size."""
    if row.packed:
        return "by picture and pair of frames" if row.native_video else "by picture"
    return "no: encoded all as one" if row.images_per_prompt is None else "no"


def _sound(row: Family) -> str:
    if row.audios_per_prompt == 0:
        return "no"
    limit = f", each up to {row.max_sound_s:g} s" if row.max_sound_s else ""
    return _count(row.audios_per_prompt) + limit
