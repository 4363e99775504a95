"""What this browser records itself, dropped into the page: files as real recorders write them, without a duration or an
index, at whatever rate the machine kept up with."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from engine.config import MediaLimits
from engine.media.read_medium import load_media
from engine.types import FrameSampling, Part
from tests.browser.test_receipts import receipts, said

ALWAYS = ("video/webm;codecs=vp8", "video/webm;codecs=vp9")
WHERE_IT_CAN = ("video/webm;codecs=av01", "video/webm;codecs=h264", "video/x-matroska;codecs=avc1")
WHERE_IT_CAN += ("video/mp4;codecs=avc1", "video/mp4;codecs=vp9", "video/mp4;codecs=av01")
SIZE = (160, 120)

RECORD = """async ([type, [width, height]]) => {
    if (!MediaRecorder.isTypeSupported(type)) return null;
    const canvas = Object.assign(document.createElement("canvas"), {width, height});
    const brush = canvas.getContext("2d");
    const paint = colour => { brush.fillStyle = colour; brush.fillRect(0, 0, width, height); };
    paint("red");
    const recorder = new MediaRecorder(canvas.captureStream(20), {mimeType: type});
    const pieces = [];
    recorder.ondataavailable = event => pieces.push(event.data);
    const ended = new Promise(resolve => { recorder.onstop = resolve; });
    recorder.start(100);
    const began = performance.now();
    for (const colour of ["red", "blue"]) {
        const since = performance.now();
        do {
            paint(colour);
            await new Promise(resolve => setTimeout(resolve, 40));
        } while (performance.now() - since < 800);
    }
    recorder.stop();
    const recorded = (performance.now() - began) / 1000;
    await ended;
    const bytes = new Uint8Array(await new Blob(pieces).arrayBuffer());
    return [btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join("")), recorded];
}"""


@dataclass(frozen=True)
class Recording:
    path: Path
    recorded_s: float


def record(me: Any, kind: str, path: Path) -> Recording | None:
    """Red, then blue, for a second and a half or as long as this machine takes for it; None where this browser does not
    write such."""
    made = me.page.evaluate(RECORD, [kind, SIZE])
    if made is None:
        return None
    data, recorded_s = made
    path.write_bytes(base64.b64decode(data))
    return Recording(path, recorded_s)


def check(recording: Recording) -> None:
    """Read as it was painted: red at first, blue at last, for about as long as it was recorded."""
    clip = load_media(Part("video", path=str(recording.path)), MediaLimits(), FrameSampling(fps=10))
    assert clip.decoded_px == SIZE
    assert 0.5 * recording.recorded_s < clip.duration_s < 2.5 * recording.recorded_s, (clip.duration_s, recording)
    colours = [tuple(int(level) for level in frame[60, 80]) for frame in clip.pixels]
    assert colours[0][0] > 180 and colours[0][2] < 80, "it does not begin red"
    assert colours[-1][2] > 180 and colours[-1][0] < 80, "it does not end blue"
    times = [time_s for _, time_s in clip.frames]
    assert times[0] == 0 and times == sorted(times)


@pytest.mark.parametrize("kind", ALWAYS)
def test_a_recording_is_dropped_into_the_page(person: Any, workbench_url: str, tmp_path: Path, kind: str) -> None:
    me = person(workbench_url).arrive()
    recording = record(me, kind, tmp_path / "recording.webm")
    assert recording is not None, f"this browser records no {kind}"
    check(recording)
    me.drop(recording.path)
    me.ask("What color is it?")
    (row,) = receipts(me, 0)
    told = said(row)
    assert told["kind"] == "video" and told["decoded"] == list(SIZE) and len(told["times"]) >= 2


def test_all_that_this_browser_records_is_read(person: Any, workbench_url: str, tmp_path: Path) -> None:
    me = person(workbench_url).arrive()
    made = [record(me, kind, tmp_path / f"{n}.{kind[6:].split(';')[0]}") for n, kind in enumerate(WHERE_IT_CAN)]
    assert any(made), f"this browser records none of {WHERE_IT_CAN}"
    for recording in filter(None, made):
        check(recording)


def moving(path: Path) -> Path:
    frames = [Image.new("RGB", SIZE, colour) for colour in ("red", "blue", "red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=200)
    return path


@pytest.mark.parametrize("is_still", [False, True])
def test_a_switch_says_how_a_picture_that_moves_goes_in(
    person: Any, workbench_url: str, tmp_path: Path, is_still: bool
) -> None:
    """For the message that is sent with it; what was sent before stays as it was."""
    me = person(workbench_url).arrive()
    if is_still:
        me.set("Temperature", "0")  # opens the side bar
        me.page.get_by_label("Of pictures that move, only the first frame").check()
    me.drop(moving(tmp_path / "a.gif"))
    me.ask("What color is it?")
    (row,) = receipts(me, 0)
    assert row["words"][0].startswith("picture" if is_still else "clip")
