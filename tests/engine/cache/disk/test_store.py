"""The cache's folder: what is written is found again as it was, and whatever goes wrong with a file is a miss."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from safetensors.numpy import load_file

from engine.cache.disk import checksummed
from engine.cache.disk.arrays import to_array
from engine.cache.disk.backoff import Backoff
from engine.cache.disk.store import DiskStore
from tests.waiting import wait_until

SCOPE, OTHER_SCOPE = "a" * 32, "b" * 32
ROOT = "f" * 32
PROJECT = Path(__file__).resolve().parents[4]

Open = Callable[..., DiskStore]


def key(number: int) -> str:
    return f"{number:032x}"


def save(store: DiskStore, number: int, group: str = ROOT, size: int = 1000) -> bool:
    return store.save(group, key(number), {"x": mx.full((size,), number, dtype=mx.uint8)}, {"ids": str(number)})


def written(store: DiskStore) -> DiskStore:
    """The store, once the writer has nothing left to do."""
    while store.wait(10.0):
        """One more file is finished."""
    assert store.stats().pending == 0
    return store


def load(store: DiskStore, group: str, key: str) -> tuple[dict[str, mx.array], dict[str, str]] | None:
    """A file's arrays and facts, read and received as a restore does it."""
    reading = store.read(group, key)
    if reading is None:
        return None
    wait([reading.contents], timeout=10)
    contents = store.receive(group, key, reading)
    if contents is None:
        return None
    return {name: to_array(tensor) for name, tensor in contents.tensors.items()}, contents.facts


def read(store: DiskStore, number: int, group: str = ROOT) -> int | None:
    """What `save` put there."""
    loaded = load(store, group, key(number))
    if loaded is None:
        return None
    (value,) = set(loaded[0]["x"].tolist())
    return int(value)


def facts(store: DiskStore, number: int) -> dict[str, str] | None:
    """The header of a file, read as a restore does it."""
    headers = store.read_facts(ROOT, [key(number)])
    wait([headers], timeout=10)
    store.receive_facts(ROOT, [key(number)], headers)
    return store.facts(ROOT, key(number))


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def gone(store: DiskStore, folder: Path) -> None:
    """Wait until the files on disk are those of the index: the writer deletes too."""
    deadline = time.monotonic() + 10
    while len(files(folder)) != store.stats().files and time.monotonic() < deadline:
        time.sleep(0.01)
    stats = store.stats()
    assert len(files(folder)) == stats.files
    assert sum(path.stat().st_size for path in files(folder)) == stats.num_bytes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def open_store(folder: Path) -> Iterator[Open]:
    """open_store(max_bytes=, scope=, max_queue_bytes=) -> a store on the test's folder."""
    stores: list[DiskStore] = []

    def make(scope: str = SCOPE, max_bytes: int = 1 << 30, **more: Any) -> DiskStore:
        stores.append(DiskStore(folder, scope, max_bytes, **more))
        return stores[-1]

    yield make
    for store in stores:
        store.close(1.0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "int32", "int64", "uint32", "uint8", "bool_"])
def test_arrays_come_back_as_they_were(dtype: str, open_store: Open) -> None:
    """Contract with MLX: the buffer of an array is its bytes, whatever its type, and a copy where it is no whole."""
    kind = getattr(mx, dtype)
    wanted = {
        "plain": mx.arange(24).reshape(2, 3, 4).astype(kind),
        "slice": mx.arange(60).reshape(3, 5, 4)[:, 1:4, :2].astype(kind),
        "turned": mx.transpose(mx.arange(6).reshape(2, 3).astype(kind)),
        "empty": mx.zeros((0, 4), dtype=kind),
        "scalar": mx.array(1).astype(kind),
    }
    store = open_store()
    assert store.save(ROOT, key(1), wanted, {"ids": "1,-2"})
    found = load(written(store), ROOT, key(1))
    assert found is not None and found[1]["ids"] == "1,-2"
    assert {name: array.dtype for name, array in found[0].items()} == dict.fromkeys(wanted, kind)
    for name, array in wanted.items():
        assert array.shape == found[0][name].shape and mx.array_equal(array, found[0][name]), name


def test_the_files_are_safetensors(open_store: Open, folder: Path) -> None:
    store = open_store()
    store.save(ROOT, key(1), {"a": mx.arange(6, dtype=mx.float32).reshape(2, 3), "b": mx.ones(4)}, {})
    written(store)
    (path,) = files(folder)
    found = load_file(path)
    assert found["a"].tolist() == [[0, 1, 2], [3, 4, 5]] and found["b"].shape == (4,)
    assert path.stat().st_mode & 0o077 == 0 and path.parent.stat().st_mode & 0o077 == 0, "for this user's eyes only"


def test_a_restart_finds_everything(open_store: Open) -> None:
    first = open_store()
    for number in range(5):
        assert save(first, number)
    assert first.holds(ROOT, key(4)), "what is on its way counts as held"
    num_bytes = written(first).stats().num_bytes
    second = open_store()
    assert [read(second, number) for number in range(6)] == [0, 1, 2, 3, 4, None]
    assert (facts(second, 3) or {})["ids"] == "3"
    stats = second.stats()
    assert (stats.files, stats.blocks, stats.hits, stats.faults) == (5, 5, 5, 0)
    assert stats.num_bytes == num_bytes


def test_what_is_there_is_not_written_twice(open_store: Open) -> None:
    store = open_store()
    assert save(store, 1) and save(written(store), 1)
    assert written(store).stats().writes == 1


def damage_byte(at: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[int(at * (len(data) - 1))] ^= 1
        path.write_bytes(data)

    return damage


def cut_to(share: float) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


DAMAGE = {
    **{f"a flipped bit at {at:.0%}": damage_byte(at) for at in (0, 0.05, 0.5, 0.9, 1)},
    **{f"cut to {share:.0%}": cut_to(share) for share in (0, 0.002, 0.1, 0.99)},
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "not there": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "of another scope": lambda path: checksummed.write(path, {}, {"scope": OTHER_SCOPE, "ids": "1"}),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_a_miss(damage: Callable[[Path], Any], open_store: Open, folder: Path) -> None:
    store = open_store()
    save(store, 1)
    save(store, 2)
    written(store)
    damage(folder / SCOPE / f"{ROOT}-{key(1)}.safetensors")
    assert load(store, ROOT, key(1)) is None
    assert not store.holds(ROOT, key(1)) and read(store, 2) == 2
    assert store.stats().faults == 1
    assert facts(store, 1) is None


@pytest.mark.parametrize("damage", [damage_byte(0.5), cut_to(0.5)], ids=["bit", "cut"])
def test_a_file_that_was_damaged_before_the_start_is_a_miss(damage: Any, open_store: Open, folder: Path) -> None:
    save(first := open_store(), 1)
    written(first)
    damage(files(folder)[0])
    assert read(open_store(), 1) is None


def test_sabotage_without_the_seal_a_damaged_file_is_read(
    open_store: Open, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `is_whole` is for: MLX itself reads a file with wrong bytes gladly."""
    monkeypatch.setattr(checksummed, "is_whole", lambda data: True)
    store = open_store()
    save(store, 1)
    written(store)
    damage_byte(0.7)(files(folder)[0])
    found = load(store, ROOT, key(1))
    assert found is not None and set(found[0]["x"].tolist()) == {0, 1}


def test_the_least_recently_used_goes_first(open_store: Open, folder: Path) -> None:
    store = open_store(max_bytes=5000)
    for number in range(3):
        save(store, number)
    assert read(written(store), 0) == 0
    save(store, 3)
    save(store, 4)
    assert [read(written(store), number) for number in range(5)] == [0, None, 2, 3, 4]
    assert store.stats().num_bytes <= 5000 and store.stats().evictions == 1
    gone(store, folder)


def test_after_a_restart_too(open_store: Open, folder: Path) -> None:
    first = open_store()
    for number in range(4):
        save(first, number)
    written(first)
    for age_s, number in enumerate((2, 0, 3, 1)):
        os.utime(folder / SCOPE / f"{ROOT}-{key(number)}.safetensors", (1000 - age_s, 1000 - age_s))
    read(first, 1)
    max_bytes = first.stats().num_bytes // 2
    first.close(10.0)
    second = open_store(max_bytes=max_bytes)
    assert [read(second, number) for number in range(4)] == [None, 1, 2, None]
    gone(second, folder)


def test_a_block_goes_after_those_that_continue_it(open_store: Open) -> None:
    store = open_store(max_bytes=4500)
    for parent, number in ((ROOT, 1), (key(1), 2), (key(2), 3)):
        save(store, number, parent)
    written(store)
    save(store, 9)
    written(store)
    assert [read(store, n, parent) for parent, n in ((ROOT, 1), (key(1), 2), (key(2), 3))] == [1, 2, None]


def test_names_that_lead_in_a_circle_end(open_store: Open) -> None:
    store = open_store(max_bytes=5000)
    for number, parent in ((1, key(2)), (2, key(1)), (3, key(3))):
        save(store, number, parent)
    for number in range(4, 9):
        save(written(store), number)
    assert [read(written(store), number) for number in range(4, 9)] == [None, 5, 6, 7, 8]
    save(store, 1, key(1))
    written(store).drop(key(1), key(1))
    assert not store.holds(key(1), key(1))


def test_a_file_larger_than_the_limit_is_not_written(open_store: Open) -> None:
    store = open_store(max_bytes=5000)
    save(store, 1)
    assert not save(written(store), 2, size=6000)
    assert read(store, 1) == 1, "nothing was evicted for it"


def test_other_scopes_are_never_read_and_go_by_age(open_store: Open, folder: Path) -> None:
    old = open_store(OTHER_SCOPE)
    for number in range(3):
        save(old, number)
    each = written(old).stats().num_bytes // 3
    store = open_store(max_bytes=each * 3)
    assert read(store, 1) is None
    assert (store.stats().files, store.stats().blocks) == (3, 0)
    for number in (7, 8, 9):
        save(store, number)
    assert [read(written(store), n) for n in (7, 8, 9)] == [7, 8, 9]
    gone(store, folder)
    assert not list((folder / OTHER_SCOPE).iterdir())
    open_store()
    assert not (folder / OTHER_SCOPE).exists()


def test_files_of_others_are_left_alone(open_store: Open, folder: Path) -> None:
    """A user may name any folder, one with models in it too."""
    theirs = [
        folder / "model.safetensors",
        folder / "my-model" / "model.safetensors",
        folder / SCOPE / "notes.txt",
        folder / SCOPE / "model-00001.safetensors",
        folder / OTHER_SCOPE / "weights.part",
    ]
    for path in theirs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 9000)
    link = folder / ("c" * 32)
    link.symlink_to(folder / "my-model")
    store = open_store(max_bytes=3000)
    for number in range(5):
        save(store, number)
    store.clear()
    store.close(10.0)
    assert all(path.stat().st_size == 9000 for path in theirs) and link.is_symlink()


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class FailingDisk:
    """os.replace that counts its calls, and raises `error` while there is one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
        self.error = error
        self.attempts = 0
        self._replace = os.replace
        monkeypatch.setattr(os, "replace", self)

    def __call__(self, *names: Any) -> None:
        self.attempts += 1
        if self.error is not None:
            raise self.error
        self._replace(*names)


ERRORS = [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EROFS, "Read-only"), RuntimeError("x")]


@pytest.mark.parametrize("error", ERRORS, ids=["full", "read-only", "other"])
def test_a_disk_that_cannot_be_written_to_is_tried_again_after_a_pause(
    error: Exception, open_store: Open, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    clock = Clock()
    store = open_store(clock=clock)
    save(store, 1)
    written(store)
    disk = FailingDisk(monkeypatch, error)
    assert save(store, 2), "nobody knows yet"
    assert read(written(store), 2) is None and read(store, 1) == 1
    assert store.stats().failing and store.stats().faults == 1
    if isinstance(error, OSError):
        assert len(files(folder)) == 1, "nothing half written is left"
    for pause_s in (30, 60, 120):
        attempts = disk.attempts
        clock.now_s += pause_s - 1
        accepted = sum(save(store, number) for number in range(2, 50))
        assert (accepted, disk.attempts) == (0, attempts), "not at every eviction"
        clock.now_s += 2
        assert [save(store, number) for number in range(2, 5)] == [True, False, False], "one attempt"
        written(store)
        assert disk.attempts == attempts + 1
    disk.error = None
    clock.now_s += 241
    assert save(store, 2) and read(written(store), 2) == 2 and not store.stats().failing
    assert [save(store, number) for number in range(3, 6)] == [True] * 3
    written(store)


def test_sabotage_without_pauses_a_full_disk_is_tried_at_every_eviction(
    open_store: Open, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setattr(Backoff, "may_try", property(lambda self: True))
    monkeypatch.setattr(DiskStore, "may_write", property(lambda self: True))
    with pytest.raises(AssertionError, match="not at every eviction"):
        test_a_disk_that_cannot_be_written_to_is_tried_again_after_a_pause(ERRORS[0], open_store, monkeypatch, folder)


class SmallDisk:
    """A disk of so many bytes under the folder: no room for more, whatever the folder's own limit is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, num_bytes: int, *, tells: bool = True) -> None:
        self.folder, self.num_bytes = folder, num_bytes
        self.full = 0
        self._replace, self._usage = os.replace, shutil.disk_usage
        monkeypatch.setattr(os, "replace", self.replace)
        if tells:
            monkeypatch.setattr(shutil, "disk_usage", lambda _: self._usage(folder.parent)._replace(free=self.free()))

    def free(self) -> int:
        return self.num_bytes - sum(path.stat().st_size for path in files(self.folder) if path.suffix != ".part")

    def replace(self, temporary: Path, path: Path) -> None:
        if temporary.stat().st_size > self.free():
            self.full += 1
            raise OSError(errno.ENOSPC, "No space left on device")
        self._replace(temporary, path)


def test_old_files_make_room_for_new_ones_where_the_disk_is_smaller_than_the_limit(
    open_store: Open, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    disk = SmallDisk(monkeypatch, folder, 5000)
    store = open_store()
    for number in range(12):
        assert save(store, number)
        written(store)
    assert [read(store, number) for number in range(12)] == [None] * 8 + [8, 9, 10, 11]
    assert disk.full == 0 and store.stats().evictions == 8


def test_they_do_after_a_pause_where_only_the_failure_tells(
    open_store: Open, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """A quota: the disk says that there is room, and there is none."""
    clock = Clock()
    disk = SmallDisk(monkeypatch, folder, 5000, tells=False)
    store = open_store(clock=clock)
    for number in range(6):
        save(store, number)
        written(store)
    assert (disk.full, store.stats().files) == (1, 4)
    clock.now_s += 31
    assert save(store, 7) and read(written(store), 7) == 7
    assert (disk.full, store.stats().files, store.stats().failing) == (1, 4, False)
    assert read(store, 0) is None


def compare(store: DiskStore, clock: Clock) -> None:
    """An idle moment after a while, and the writer's look at the folder."""
    clock.now_s += 31
    store.idle()
    deadline = time.monotonic() + 10
    while store._scanning and time.monotonic() < deadline:
        store.stats()
        time.sleep(0.005)


def test_the_figures_are_true_after_somebody_else_emptied_the_folder(open_store: Open, folder: Path) -> None:
    clock = Clock()
    store = open_store(clock=clock)
    for number in range(4):
        save(store, number)
    written(store)
    compare(store, clock)
    assert store.stats().files == 4, "they are there"
    shutil.rmtree(folder)
    compare(store, clock)
    stats = store.stats()
    assert (stats.files, stats.blocks, stats.num_bytes, stats.faults) == (0, 0, 0, 0)
    assert save(store, 2) and read(written(store), 2) == 2, "and it is written again"
    gone(store, folder)


def test_what_another_server_wrote_and_deleted_is_counted(open_store: Open, folder: Path) -> None:
    clock = Clock()
    one, other = open_store(clock=clock), open_store()
    for number in range(3):
        save(other, number)
    save(one, 7)
    written(one)
    written(other)
    compare(one, clock)
    assert one.stats().files == 4 and read(one, 1) == 1
    one.drop(ROOT, key(1))
    gone(one, folder)
    other.drop(ROOT, key(2))
    written(other)
    wait_until(lambda: not (folder / SCOPE / f"{ROOT}-{key(2)}.safetensors").exists(), "it is not deleted")
    compare(one, clock)
    gone(one, folder)


def test_a_file_that_was_dropped_during_a_look_at_the_folder_stays_dropped(open_store: Open, folder: Path) -> None:
    clock = Clock()
    store = open_store(clock=clock)
    save(store, 1)
    written(store)
    clock.now_s += 31
    store.idle()
    store.drop(ROOT, key(1))
    compare(store, clock)
    assert store.stats().files == 0
    gone(store, folder)


def test_what_says_nothing_about_a_file_does_not_delete_it(open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptors left, no memory left: the file is as good as before."""
    store = open_store()
    save(store, 1)
    written(store)
    for error in (OSError(errno.EMFILE, "Too many open files"), MemoryError()):
        with monkeypatch.context() as patched:
            patched.setattr(checksummed, "is_whole", Raises(error))
            assert read(store, 1) is None
    assert store.stats().faults == 2 and read(store, 1) == 1


class Raises:
    """A function that raises."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise self.error


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = DiskStore(tmp_path / "file" / "cache", SCOPE, 1 << 20)
    save(store, 1)
    assert read(written(store), 1) is None and store.stats().faults == 1
    store.close(1.0)


def test_a_stuck_writer_holds_up_nobody(open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = threading.Event()
    write = checksummed.write

    def stuck(*args: Any) -> None:
        assert disk.wait(30)
        write(*args)

    monkeypatch.setattr(checksummed, "write", stuck)
    store = open_store(max_queue_bytes=5000)
    started = time.monotonic()
    taken = [save(store, number) for number in range(100)]
    assert taken == [True] * 4 + [False] * 96, "the queue is bounded, and what does not fit is not written"
    assert not store.wait(0.05)
    store.close(0.05)
    assert time.monotonic() - started < 5
    assert store.stats().pending == 4
    disk.set()
    written(store)
    again = open_store()
    assert [read(again, number) for number in range(5)] == [0, 1, 2, 3, None]


def test_a_tree_is_dropped_with_its_root(open_store: Open, folder: Path) -> None:
    store = open_store()
    tree = [(ROOT, 1), (key(1), 2), (key(1), 3), (key(3), 4)]
    for parent, number in tree:
        save(store, number, parent)
    save(written(store), 5, key(4))  # still on its way when the tree goes
    save(store, 6)
    store.drop(ROOT, key(1))
    written(store)
    assert [read(store, n, parent) for parent, n in (*tree, (key(4), 5))] == [None] * 5
    assert read(store, 6) == 6
    gone(store, folder)


def test_clear_forgets_this_scope_also_what_is_on_its_way(open_store: Open, folder: Path) -> None:
    other = open_store(OTHER_SCOPE)
    save(other, 1)
    written(other)
    store = open_store()
    save(store, 1)
    save(written(store), 2)
    store.clear()
    assert save(store, 2), "again, after all"
    assert [read(written(store), number) for number in (1, 2)] == [None, 2]
    assert store.stats().files == 2
    gone(store, folder)
    assert read(other, 1) == 1


CHILD = """
import os, sys, time
from pathlib import Path
import mlx.core as mx
from engine.cache.disk.store import DiskStore

replace, done = os.replace, []

def slow(*names):
    if len(done) == 3:
        print("in the middle", flush=True)
        time.sleep(60)
    done.append(replace(*names))

os.replace = slow
store = DiskStore(Path(sys.argv[1]), "a" * 32, 1 << 30)
for number in range(6):
    store.save("f" * 32, f"{number:032x}", {"x": mx.full((100_000,), number, dtype=mx.uint8)}, {})
time.sleep(60)
"""


def test_kill_9_in_the_middle_of_writing(open_store: Open, folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder)], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == "in the middle\n"
        child.kill()
    assert len(files(folder)) == 4 and len(list(folder.rglob("*.part"))) == 1
    store = open_store()
    assert [read(store, number) for number in range(6)] == [0, 1, 2, None, None, None]
    assert store.stats().faults == 0
    assert not list(folder.rglob("*.part"))
    assert save(store, 3) and read(written(store), 3) == 3
