"""scheduler: first in, first out; prompts take turns; a cancelled sequence leaves no trace. Pure Python."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from engine.runtime.scheduler import DecodeStep, OpenPrompt, PrefillChunk, RestorePrompt, Scheduler
from engine.runtime.sequence import Choice, Sequence
from engine.types import Request


def sequence(name: str) -> Sequence:
    return Sequence(request=Request(id=name), post=lambda _: None, accepted_s=0.0, submitted_s=0.0)


def find(scheduler: Scheduler, name: str) -> Sequence | None:
    return next((s for s in scheduler if s.id == name), None)


def filled(*names: str, max_num_seqs: int = 4) -> Scheduler:
    scheduler = Scheduler(max_num_seqs, chunk_tokens=16)
    for name in names:
        scheduler.submit(sequence(name))
    return scheduler


def admit_all(scheduler: Scheduler) -> list[str]:
    out = []
    while (admitted := scheduler.admit()) is not None:
        out.append(admitted.id)
    return out


def test_admission_is_first_in_first_out_up_to_the_room() -> None:
    scheduler = filled("a", "b", "c", max_num_seqs=2)
    assert admit_all(scheduler) == ["a", "b"]
    assert [s.stage for s in scheduler] == ["prefill", "prefill", "waiting"]
    scheduler.remove(find(scheduler, "a"))  # type: ignore[arg-type]
    assert admit_all(scheduler) == ["c"]


def test_rows_that_decode_take_room_too() -> None:
    scheduler = filled("a", "b", max_num_seqs=1)
    first = scheduler.admit()
    assert first is not None
    scheduler.joined(first)
    assert first.stage == "decode"
    assert scheduler.admit() is None


def test_half_read_prompts_are_bounded() -> None:
    names = [str(i) for i in range(20)]
    scheduler = filled(*names, max_num_seqs=100)
    assert admit_all(scheduler) == names[: scheduler.prefill_batch_size]


def test_two_requests_of_one_label_are_two() -> None:
    scheduler = filled("x", "x")
    first, second = admit_all(scheduler) and list(scheduler)
    scheduler.joined(first)
    scheduler.joined(second)
    scheduler.remove(first)
    assert list(scheduler) == [second]


def test_prompts_take_turns() -> None:
    scheduler = filled("a", "b", "c")
    admit_all(scheduler)
    turns = [scheduler.next_prefill() for _ in range(6)]
    assert [turn[0].id for turn in turns if turn] == ["a", "b", "c", "a", "b", "c"]
    assert all(turn and turn[1] == 16 for turn in turns)


def test_a_prompt_alone_is_read_in_large_pieces() -> None:
    scheduler = filled("a")
    admit_all(scheduler)
    turn = scheduler.next_prefill()
    assert turn is not None
    assert turn[1] > 16
    scheduler.submit(sequence("b"))
    turn = scheduler.next_prefill()
    assert turn is not None
    assert turn[1] == 16, "somebody waits: small pieces from now on"


def test_nothing_to_prefill() -> None:
    assert filled("a").next_prefill() is None


@pytest.mark.parametrize("stage", ["waiting", "prefill", "decode"])
def test_remove_at_any_stage_leaves_no_trace(stage: str) -> None:
    scheduler = filled("a", "b")
    target = find(scheduler, "a")
    assert target is not None
    if stage != "waiting":
        scheduler.admit()
    if stage == "decode":
        scheduler.joined(target)
    assert target.stage == stage
    scheduler.remove(target)
    assert target.stage == "finished"
    assert find(scheduler, "a") is None
    assert [s.id for s in scheduler] == ["b"]
    assert len(scheduler) == 1
    scheduler.remove(target)
    assert len(scheduler) == 1, "removing twice is harmless"


def test_turns_go_on_when_one_leaves() -> None:
    scheduler = filled("a", "b", "c")
    admit_all(scheduler)
    scheduler.next_prefill()
    gone = find(scheduler, "b")
    assert gone is not None
    scheduler.remove(gone)
    turns = [scheduler.next_prefill() for _ in range(4)]
    assert [turn[0].id for turn in turns if turn] == ["c", "a", "c", "a"]


# -- memory ------------------------------------------------------------------------------------------------------------


def opened(scheduler: Scheduler, name: str, num_prompt: int) -> Sequence:
    """A sequence whose prompt has been built, as the engine thread leaves it."""
    found = find(scheduler, name)
    assert found is not None
    found.num_prompt, found.choices = num_prompt, [Choice(found, 0, None)]  # type: ignore[arg-type]
    return found


def in_memory(max_row_tokens: int | None, **prompts: int) -> tuple[Scheduler, list[Sequence]]:
    scheduler = filled(*prompts)
    scheduler.max_row_tokens = max_row_tokens
    admit_all(scheduler)
    return scheduler, [opened(scheduler, name, tokens) for name, tokens in prompts.items()]


def test_a_prompt_that_does_not_fit_beside_the_others_waits_until_they_are_gone() -> None:
    scheduler, (a, b) = in_memory(2000, a=1000, b=900)
    assert scheduler.grant(a)
    assert not scheduler.grant(b), "two rows of 1,000 and room to answer are more than 2,000"
    assert {scheduler.next_prefill()[0].id for _ in range(4)} == {"a"}  # type: ignore[index]
    scheduler.remove(a)
    assert scheduler.next_prefill()[0] is b  # type: ignore[index]


def test_padding_counts_a_short_row_beside_a_long_one_is_as_long() -> None:
    scheduler, (a, b) = in_memory(2000, a=1000, b=10)
    assert scheduler.grant(a)
    assert not scheduler.grant(b)


def test_a_row_alone_always_goes_and_without_a_limit_all_do() -> None:
    scheduler, (a,) = in_memory(0, a=1000)
    assert scheduler.grant(a)
    scheduler, rows = in_memory(None, a=10_000, b=10_000)
    assert all(scheduler.grant(row) for row in rows)


def test_nothing_is_opened_behind_a_prompt_that_waits_for_memory() -> None:
    scheduler, (a, _) = in_memory(1500, a=1000, b=900)
    scheduler.submit(sequence("c"))
    scheduler.admit()
    assert {scheduler.next_prefill()[0].id for _ in range(4)} == {"a"}  # type: ignore[index]
    scheduler.remove(a)
    assert {scheduler.next_prefill()[0].id for _ in range(4)} == {"b", "c"}  # type: ignore[index]


def test_what_was_granted_stays_granted() -> None:
    scheduler, (a, b) = in_memory(3000, a=1000, b=100)
    assert scheduler.grant(a)
    assert scheduler.grant(b)
    a.choices[0].token_ids = [0] * 5000
    assert scheduler.grant(b)


# -- the plan ----------------------------------------------------------------------------------------------------------


def test_a_plan_opens_reads_joins_and_decodes() -> None:
    """One prompt of 40 tokens beside a row that decodes, in chunks of 16."""
    scheduler = filled("a", "b")
    admit_all(scheduler)
    opening = scheduler.plan()
    assert isinstance(opening, OpenPrompt) and opening.sequence.id == "a"
    a, b = opened(scheduler, "a", 40), opened(scheduler, "b", 40)
    scheduler.grant(b)
    scheduler.joined(b)
    ends = []
    while not (isinstance(chunk := scheduler.chunk(a, 16), PrefillChunk) and chunk.join):
        assert chunk is not None and chunk.start == a.num_prefilled
        scheduler.opened()
        scheduler.prefilled(a, chunk.end)
        ends.append(chunk.end)
        assert scheduler.plan() == DecodeStep(), "a step is due after each chunk"
        scheduler.stepped()
    assert ends == [16, 32] and (chunk.start, chunk.end) == (32, 40)


def test_a_chunk_pauses_for_a_snapshot_and_keeps_it() -> None:
    scheduler = filled("a")
    admit_all(scheduler)
    a = opened(scheduler, "a", 40)
    a.stops = (10, 39)
    first = scheduler.chunk(a, 1000)
    assert first == PrefillChunk(a, 0, 10, keep=True, join=False)
    scheduler.prefilled(a, 10)
    assert scheduler.chunk(a, 1000) == PrefillChunk(a, 10, 39, keep=True, join=True)


def test_the_rest_of_a_prompt_waits_for_as_many_rows_as_it_has_answers() -> None:
    scheduler = Scheduler(8, chunk_tokens=16, completion_batch_size=3)
    one, many = sequence("one"), Sequence(Request(id="many", n=3), lambda _: None, 0.0, 0.0)
    for held in (one, many):
        scheduler.submit(held)
    admit_all(scheduler)
    opened(scheduler, "one", 10)
    scheduler.joined(one)
    opened(scheduler, "many", 10)
    chunk = scheduler.chunk(many, 1000)
    assert chunk is not None and not chunk.join and chunk.end == 9
    scheduler.remove(one)
    chunk = scheduler.chunk(many, 1000)
    assert chunk is not None and chunk.join


# Prompts that come from disk.


@dataclass
class Disk:
    """As much of a restore as the scheduler sees."""

    ready: bool = True


def restored(scheduler: Scheduler, name: str, ready: bool) -> Sequence:
    """A sequence in prefill whose blocks are being read."""
    scheduler.submit(sequence(name))
    (out,) = [s for s in (scheduler.admit(),) if s is not None]
    out.restore = Disk(ready)  # type: ignore[assignment]
    scheduler.restoring(out)
    return out


def test_a_prompt_that_waits_for_the_disk_holds_up_nobody() -> None:
    scheduler = filled()
    slow = restored(scheduler, "slow", ready=False)
    assert scheduler.plan() is None, "nothing to do before the disk answers"
    scheduler.submit(sequence("other"))
    other = scheduler.admit()
    for _ in range(3):
        plan = scheduler.plan()
        assert isinstance(plan, OpenPrompt) and plan.sequence is other
    slow.restore.ready = True  # type: ignore[union-attr, misc]
    plans = [scheduler.plan() for _ in range(4)]
    assert {type(plan) for plan in plans} == {OpenPrompt, RestorePrompt}, "they take turns"


def test_running_rows_step_after_every_share_from_disk() -> None:
    scheduler = filled("row")
    row = scheduler.admit()
    assert row is not None
    scheduler.joined(row)
    slow = restored(scheduler, "slow", ready=True)
    for _ in range(5):
        assert isinstance(scheduler.plan(), RestorePrompt)
        scheduler.restored(slow, is_last=False)
        assert isinstance(scheduler.plan(), DecodeStep), "a step is due"
        scheduler.stepped()
    assert slow.stage == "restoring"
    scheduler.restored(slow, is_last=True)
    assert slow.stage == "prefill"
    scheduler.remove(slow)
    assert [s.id for s in scheduler] == ["row"]


def test_sabotage_shares_that_cost_nothing_hold_up_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scheduler, "restored", lambda self, sequence, is_last: None)
    with pytest.raises(AssertionError, match="a step is due"):
        test_running_rows_step_after_every_share_from_disk()
