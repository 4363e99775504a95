"""Three hundred large pictures at once: each is answered or refused with 429, and memory stays under a ceiling."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MIB = 1024**2
NUM_REQUESTS = 300
SIDE_PX = 2400
PICTURE_BYTES = SIDE_PX * SIDE_PX * 3
ROOM_BYTES = 8 * PICTURE_BYTES
CEILING_BYTES = ROOM_BYTES + 16 * PICTURE_BYTES
"""Above what the process has after one such picture: the room for decoded ones, and what decoding two at a time and
building prompts for a handful needs on top."""

SCRIPT = """
import asyncio, json, resource, sys
from collections import Counter
from engine.config import EngineConfig
from engine.core import Engine
from engine.errors import EngineError
from engine.types import Message, Part, Request
from tests.engine.drive import chat
from tests.pictures import data_url, encode, picture

def peak_bytes():
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts the parent's peak into ru_maxrss of a child.
    status = open("/proc/self/status").read()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024

async def ended(engine, request):
    try:
        async for _ in engine.stream(request):
            pass
        return "done", 0
    except EngineError as error:
        return str(error.status), getattr(error, "retry_after_s", 0)

async def main(num_requests, side_px, room_bytes):
    engine = Engine(EngineConfig(max_waiting_media_bytes=room_bytes, max_num_seqs=1, max_queue=num_requests))
    engine.start()
    await engine.ready()
    png = encode(picture("red", size=(side_px, side_px)))
    # What stands after a PNG's end is not looked at: other bytes, so another picture to whoever has seen this one.
    parts = [Part("image", url=data_url(png + b"%d" % i)) for i in range(num_requests)]
    requests = [Request(messages=(Message("user", (part, Part("text", text="?"))),), max_tokens=1) for part in parts]
    assert await ended(engine, requests[0]) == ("done", 0)
    before = peak_bytes()
    long = engine.stream(chat("Go on.", max_tokens=4000, min_tokens=4000))
    await anext(long)
    flood = [asyncio.create_task(ended(engine, request)) for request in requests]
    await asyncio.sleep(0.1)
    while engine._media._num_waiting:  # until all that may wait does so decoded
        await asyncio.sleep(0.05)
    await long.aclose()
    ends = await asyncio.gather(*flood)
    after = peak_bytes()
    assert await ended(engine, requests[0]) == ("done", 0), "it serves afterwards"
    engine.stop()
    print(json.dumps({
        "ends": Counter(end for end, _ in ends), "grown": after - before, "retry": sorted({s for e, s in ends if s}),
    }))

asyncio.run(main(*map(int, sys.argv[1:])))
"""


def flooded(num_requests: int, room_bytes: int) -> dict[str, Any]:
    """In a process of its own, whose peak of memory is nobody else's: how requests ended, and by how much it grew."""
    command = [sys.executable, "-c", SCRIPT, str(num_requests), str(SIDE_PX), str(room_bytes)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_three_hundred_large_pictures_at_once_stay_under_a_ceiling() -> None:
    found = flooded(NUM_REQUESTS, ROOM_BYTES)
    assert set(found["ends"]) == {"done", "429"} and sum(found["ends"].values()) == NUM_REQUESTS
    assert found["ends"]["done"] >= 8, "those for whom there is room are served"
    assert all(1 <= seconds <= 120 for seconds in found["retry"])
    assert found["grown"] < CEILING_BYTES, f"it grew by {found['grown'] / MIB:.0f} MiB"


def test_sabotage_without_the_bound_it_grows_beyond() -> None:
    """Twin: a sixth of the pictures, and room for all."""
    found = flooded(NUM_REQUESTS // 6, 1 << 40)
    assert found["ends"] == {"done": NUM_REQUESTS // 6}
    assert found["grown"] > CEILING_BYTES, f"it grew by {found['grown'] / MIB:.0f} MiB only"
