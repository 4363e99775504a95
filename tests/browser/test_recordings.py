"""What this browser records itself, dropped into the page: files as real recorders write them, without a duration or an
index, at whatever rate the machine kept up with."""

from __future__ import annotations

import base64
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
    const began = performance.now();
    recorder.start(100);
    const painting = setInterval(() => paint(performance.now() - began < 800 ? "red" : "blue"), 40);
    await new Promise(resolve => setTimeout(resolve, 1600));
    recorder.stop();
    await ended;
    clearInterval(painting);
    const bytes = new Uint8Array(await new Blob(pieces).arrayBuffer());
    return btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join(""));
}"""


def record(me: Any, kind: str, path: Path) -> Path | None:
    """A recording of red, then blue, for a second and a half; None where this browser does not write such."""
    data = me.page.evaluate(RECORD, [kind, SIZE])
    if data is None:
        return None
    path.write_bytes(base64.b64decode(data))
    return path


def check(path: Path) -> None:
    """Read as it was painted: red at first, blue at last, for about as long as it was recorded."""
    clip = load_media(Part("video", path=str(path)), MediaLimits(), FrameSampling(fps=10))
    assert clip.decoded_px == SIZE and 0.8 < clip.duration_s < 4, clip.duration_s
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
    me.drop(recording)
    me.ask("What color is it?")
    (row,) = receipts(me, 0)
    told = said(row)
    assert told["kind"] == "video" and told["decoded"] == list(SIZE) and len(told["times"]) >= 2


def test_all_that_this_browser_records_is_read(person: Any, workbench_url: str, tmp_path: Path) -> None:
    me = person(workbench_url).arrive()
    made = [record(me, kind, tmp_path / f"{n}.{kind[6:].split(';')[0]}") for n, kind in enumerate(WHERE_IT_CAN)]
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
