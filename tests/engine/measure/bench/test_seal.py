"""A run that is shown: its seal tells what was changed, others' files are compared, and the card has what it says."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.cli import bench
from engine.errors import BadRequest
from engine.measure.bench import card, files, seal
from engine.measure.bench.result import Canary, Check, Result
from tests.engine.measure.bench.test_report import MACHINE, MODEL, run

PASSED, FAILED = (Canary((Check("seen", ok, "12 tokens"),)) for ok in (True, False))


def checked(canary: Canary) -> Result:
    whole = run(machine=MACHINE, model=MODEL, versions={"mlx": "1.2"})
    return replace(whole, points=tuple(replace(point, canary=canary) for point in whole.points))


def written(folder: Path, result: Result | None = None) -> Path:
    file = folder / "run.json"
    files.write(result or checked(PASSED), file)
    return file


def test_a_file_that_was_read_and_written_by_others_keeps_its_seal(tmp_path: Path) -> None:
    """Other spaces, another order, 16.0 as 16: JavaScript writes numbers so."""
    content = json.loads(written(tmp_path).read_text(), parse_float=lambda text: _as_javascript(float(text)))
    (tmp_path / "again.json").write_text(json.dumps(dict(reversed(content.items())), indent=4, ensure_ascii=False))
    read = files.read(tmp_path / "again.json")
    assert read["machine"]["total_memory_gb"] == 16 and len(read["seal"]["sha256"]) == 64
    assert "does not show who measured" in read["seal"]["does_not_show"]


def _as_javascript(number: float) -> float | int:
    return int(number) if number.is_integer() else number


@pytest.mark.parametrize("place", ["number", "verdict", "machine", "seal"])
def test_a_change_is_seen(tmp_path: Path, place: str) -> None:
    file = written(tmp_path)
    content = json.loads(file.read_text())
    if place == "number":
        content["points"][0]["rounds"][0][0]["ttft_s"] /= 2
    elif place == "verdict":
        content["canary"]["ok"] = None
    elif place == "machine":
        content["machine"]["chip_name"] = "M5"
    else:
        content["seal"] = "none of your business"
    file.write_text(json.dumps(content))
    with pytest.raises(BadRequest, match="was changed after it was written"):
        files.read(file)


def test_sabotage_a_seal_over_less_would_not_see_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "seal_of", lambda result: "the same for all")
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_a_change_is_seen(tmp_path, "number")


def test_anothers_file_is_compared_and_the_seal_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, bare = written(tmp_path), tmp_path / "bare.json"
    content = json.loads(file.read_text())
    del content["seal"]
    bare.write_text(json.dumps({**content, "machine": {**MACHINE, "chip_name": "M5"}}))
    assert bench(["--compare", str(bare), str(file)]) == 0
    said = capsys.readouterr().out
    assert f"B is sealed: {seal.seal_of(content)[:16]}" in said and "A is sealed" not in said
    assert seal.SHOWS_NOT in said and "CAUTION: machine chip_name differs" in said


@pytest.mark.parametrize(
    "points", [[1], [{"suite": "a", "case": "b"}], [{"suite": "a", "case": "b", "rounds": [[{"x": 1}]]}]]
)
def test_what_only_looks_like_a_run_is_refused_in_words(
    tmp_path: Path, points: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "odd.json"
    file.write_text(json.dumps({"format": 1, "points": points}))
    assert bench(["--compare", str(file), str(file)]) == 1
    assert "cannot be read as a result of vllm-mlx-bench" in capsys.readouterr().err


def test_a_file_does_not_steer_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = checked(PASSED)
    evil = tuple(replace(point, case=replace(point.case, name="\x1b[2Jgone")) for point in whole.points)
    file = written(tmp_path, replace(whole, points=evil))
    assert bench(["--compare", str(file), str(file)]) == 0
    said = capsys.readouterr().out
    assert "?[2Jgone" in said and "\x1b" not in said


def drawn(result: Result) -> Image.Image:
    return Image.open(io.BytesIO(card.card(json.loads(json.dumps(result.json())))))


def pixels_of(image: Image.Image, colour: str) -> int:
    red_green_blue = tuple(bytes.fromhex(colour[1:]))
    return int((np.asarray(image.convert("RGB")) == red_green_blue).all(-1).sum())


def test_the_card_shows_the_verdict_and_the_seal_of_its_json(tmp_path: Path) -> None:
    bench_card = tmp_path / "card.png"
    files.check_card(bench_card)
    files.write_card(checked(PASSED), bench_card)
    good = Image.open(bench_card)
    read = files.read(tmp_path / "card.json")
    assert good.size == (2400, 1260) and good.text["seal"] == f"sha256 {read['seal']['sha256']}"
    red, green = card.VERDICTS[False][0], card.VERDICTS[True][0]
    assert pixels_of(good, red) == 0 and pixels_of(good, green) > 500
    assert pixels_of(drawn(checked(FAILED)), red) > 500, "a failed check is not seen"
    with pytest.raises(BadRequest, match=r"must end in \.png"):
        files.check_card(tmp_path / "card.jpg")


def test_the_card_says_what_the_page_warns_of() -> None:
    busy = replace(checked(PASSED), notes=("load average 9.1 on 2 cores when it began",))
    assert pixels_of(drawn(busy), card.CAUTION) > 200 and pixels_of(drawn(checked(PASSED)), card.CAUTION) == 0


def test_a_card_of_little_and_of_much(tmp_path: Path) -> None:
    """Nothing answered, nothing known of the machine; more rows than there is room for, long and odd names."""
    assert drawn(replace(run(), points=())).size == (2400, 1260)
    (point,) = checked(PASSED).points
    long = replace(point, case=replace(point.case, name="x\n\x1b" + "long " * 99), target="somebody's server")
    image = drawn(replace(checked(PASSED), points=(point, long) * 9, stopped=True))
    edge = np.asarray(image.convert("RGB"))[:, -(card.EDGE - 4) * card.SCALE :]
    assert (edge == tuple(bytes.fromhex(card.GROUND[1:]))).all(), "something is drawn over the edge"


@pytest.mark.parametrize("machine", [{}, {"chip_name": "M4"}, {"total_memory_gb": "lots", "num_cores": None}])
def test_a_card_of_somebody_elses_machine(machine: dict[str, Any]) -> None:
    result = json.loads(json.dumps(checked(PASSED).json())) | {"machine": machine, "model": {"num_bytes": "many"}}
    assert Image.open(io.BytesIO(card.card(result))).size == (2400, 1260)


def test_a_machine_is_told_in_one_line() -> None:
    assert card._machine(MACHINE) == "M4, 10 cores, 8 GPU cores, 16 GB  ·  MLX on GPU  ·  macOS 26"
    assert card._machine({"total_memory_gb": 8, "os": "Linux"}) == "8.0 GB  ·  Linux"
    assert card._machine({"total_memory_gb": 15.6}) == "16 GB", "as the page says it"
