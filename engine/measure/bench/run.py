"""Runs suites, as a stream of frozen events. On one event loop; media are drawn in threads.

    run = Run(suites, targets, settings)
    async for event in run.events(): ...
    run.stop()          ends the current answer; Finished follows, with what was measured until then
    run.result()        at any time, also after events() was closed or cancelled

Targets get the same rounds in turns, one target at a time. Their order alternates from round to round, so that a
machine that becomes slower or faster favours none of them.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from engine.errors import BadRequest, EngineError
from engine.measure.bench import canary, load, long_chat
from engine.measure.bench.about import roofline
from engine.measure.bench.canary import ProofAnswers, Proofs
from engine.measure.bench.events import Finished, Noise, Progress, RunEvent, Started
from engine.measure.bench.load import EVERY_S, Load
from engine.measure.bench.plan import (
    BenchSettings,
    Case,
    Group,
    MeasuredRound,
    Round,
    ScheduledQuestion,
    Step,
    Suite,
    case_words,
    select_groups,
)
from engine.measure.bench.points import comparisons, facts_of, points_of
from engine.measure.bench.questions import Question, words
from engine.measure.bench.result import Result, is_noisy
from engine.measure.bench.samples import Sample
from engine.measure.bench.targets import Status, Target

WARM_UP = 1_000_000
"""Warm-up rounds are numbered from here, so that no measured round repeats their questions."""

BUSY_SHARE = 0.5
"""A load average above this share of the cores when a run begins is reported as noise."""

SEEDS = 10**9
MEASURED_WORDS = (20, 120)


class Run:
    """One run of one or several suites; its events can be read once. about: facts for the result (machine, model,
    versions). is_elsewhere: what is measured runs on another machine, so that the load of this one is no part of it."""

    def __init__(
        self,
        suites: Sequence[Suite],
        targets: Sequence[Target],
        settings: BenchSettings,
        about: dict[str, Any] | None = None,
        *,
        is_elsewhere: bool = False,
    ) -> None:
        self._is_elsewhere = is_elsewhere
        settings = replace(settings, seed=settings.seed or secrets.randbelow(SEEDS) + 1)
        self.settings = settings
        self._suites = tuple(suites)
        self._targets = tuple(targets)
        self._extra_targets = {group.only_target for group in self._all_groups()}
        self._groups, self._too_long = self._selected_groups()
        self._result = Result(
            suites=tuple(suite.name for suite in suites),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            settings=settings,
            targets=tuple(target.name for target in targets),
            **(about or {}),
        )
        self._began_s = time.perf_counter()
        self._out: asyncio.Queue[RunEvent | BaseException | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._done = 0
        self._total = 0
        self._loads: list[Load] = []
        self._noise: list[Noise] = []
        self._error: EngineError | None = None

    def _all_groups(self) -> list[Group]:
        return [group for suite in self._suites for group in suite.groups(self.settings)]

    def _selected_groups(self) -> tuple[list[Group], list[Group]]:
        """Those that are measured, and those whose questions the model's context has no room for. Raises BadRequest for
        cases that there are not."""
        groups = self._all_groups()
        selected = select_groups(groups, self.settings.only)
        if not selected:
            names = ", ".join(case.name for group in groups for case in group.cases)
            raise BadRequest(f"There is no case {', '.join(self.settings.only)}. There are: {names}.", param="case")
        wanted = [group for group in selected if self._targets_of(group)]
        too_long = [group for group in wanted if not self._has_room(group)]
        return [group for group in wanted if group not in too_long], too_long

    def _has_room(self, group: Group) -> bool:
        """Whether the model's context has room for its questions, as far as both are known."""
        return self.settings.context is None or group.num_tokens <= self.settings.context

    def _targets_of(self, group: Group) -> tuple[Target, ...]:
        """The targets that a group is measured on."""
        if group.servers:
            return tuple(target for target in self._targets if not target.in_process)
        if not group.only_target:
            return tuple(target for target in self._targets if target.name not in self._extra_targets)
        others = [target for target in self._targets if target.name == group.only_target]
        return (self._targets[0], *others) if others else ()

    def _no_room(self, group: Group) -> str:
        names = ", ".join(case_words(case.name) for case in group.cases)
        need = f"about {group.num_tokens:,} tokens are needed, and its context has {self.settings.context:,}"
        return f"This model cannot be measured with {names}: {need}."

    def result(self) -> Result:
        """What has been measured so far."""
        result = self._result
        return replace(
            result,
            loads=tuple(self._loads),
            notes=tuple(dict.fromkeys(noise.message for noise in self._noise if noise.kind != "spread")),
            roofline=roofline(result.points, result.targets[0], result.machine, result.model),
        )

    def stop(self) -> None:
        """End the current answer. From the loop that reads the events; does nothing when the run has ended."""
        if self._task is not None:
            self._task.cancel()

    async def events(self) -> AsyncGenerator[RunEvent, None]:
        """The events, from Started to Finished. Closing or cancelling this stops the run.

        Raises EngineError when nothing could be measured.
        """
        self._task = asyncio.create_task(self._measure())
        load_task = asyncio.create_task(self._watch())
        try:
            while (event := await self._out.get()) is not None:
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            self._result = replace(self._result, stopped=self._result.stopped or not self._task.done())
            for task in (self._task, load_task):
                task.cancel()
            for task in (self._task, load_task):
                with suppress(asyncio.CancelledError):
                    await task

    # -- measuring

    async def _measure(self) -> None:
        """The run's task: puts all events into the queue, at last Finished (or the error) and None."""
        error: BaseException | None = None
        try:
            await self._begin()
            for group in self._groups:
                await self._group(group)
            if not any(point.samples for point in self._result.points):
                error = self._error
        except asyncio.CancelledError:
            self._result = replace(self._result, stopped=True)
        except EngineError as e:
            error = e
        except Exception as e:  # a fault of the harness must reach the reader of the events
            error = e
        self._out.put_nowait(error or Finished(self.result()))
        self._out.put_nowait(None)

    async def _begin(self) -> None:
        if any(suite.sized for suite in self._suites):
            self.settings = await self._measured_sizes(self._targets[0])
            self._result = replace(self._result, settings=self.settings)
            self._groups, self._too_long = self._selected_groups()
        if self._too_long and not self._groups:
            raise BadRequest(" ".join(map(self._no_room, self._too_long)), param="suite")
        rounds = self.settings.prompts + self.settings.warmup
        for group in self._groups:
            asks = sum(len(step) for step in await _off_loop(group.make, 0))
            self._total += asks * rounds * len(self._targets_of(group))
        cases = tuple(case for group in self._groups for case in group.cases)
        names = self._result.targets
        self._out.put_nowait(Started(self._result.suites, cases, names, self._total, self.settings))
        if unmeasured := [group for group in self._all_groups() if group.only_target and not self._targets_of(group)]:
            skipped = ", ".join(case_words(case.name) for group in unmeasured for case in group.cases)
            self._note("skipped", f"not measured, because it needs a target {unmeasured[0].only_target!r}: {skipped}")
        for group in self._too_long:
            self._note("skipped", self._no_room(group))
        if not self._is_elsewhere:
            self._note_machine()

    def _note_machine(self) -> None:
        busy, cores = os.getloadavg()[0], os.cpu_count() or 1
        if busy > BUSY_SHARE * cores:
            self._note("busy", f"load average {busy:.1f} on {cores} cores when it began")
        if note := load.thermal_note():
            self._note("thermal", note)

    async def _measured_sizes(self, target: Target) -> BenchSettings:
        """The settings with the tokens of a word and of a screenshot, from differences of two prompts, so that the chat
        template's tokens do not count."""
        settings = self.settings
        few, many = (Question(words((settings.seed, "length", count), count), 1) for count in MEASURED_WORDS)
        num_few, num_many = [(await target.ask(question)).prompt_tokens for question in (few, many)]
        per_word = max(0.1, (num_many - num_few) / (MEASURED_WORDS[1] - MEASURED_WORDS[0]))
        settings = replace(settings, tokens_per_word=per_word)
        if not settings.pictures:
            return settings
        shot = await _off_loop(long_chat.screenshot_of, (settings.seed, "length"))
        num_with = (await target.ask(replace(few, media=(shot,)))).prompt_tokens
        return replace(settings, tokens_per_shot=max(1, num_with - num_few))

    async def _group(self, group: Group) -> None:
        targets = self._targets_of(group)
        rounds: dict[str, list[MeasuredRound | None]] = {target.name: [] for target in targets}
        errors: dict[str, list[str]] = {target.name: [] for target in targets}
        try:
            for number in range(-self.settings.warmup, self.settings.prompts):
                round_ = await _off_loop(group.make, number if number >= 0 else WARM_UP - number)
                turns = targets if number % 2 == 0 else tuple(reversed(targets))
                for target in turns:
                    await self._turn(target, round_, number >= 0, rounds[target.name], errors[target.name])
        except asyncio.CancelledError:
            # Keep what was measured of this group; the canary's questions are not asked.
            self._settle(group, rounds, errors, {})
            raise
        proofs = await self._prove(group, errors)
        self._settle(group, rounds, errors, proofs)

    async def _turn(
        self, target: Target, round_: Round, counts: bool, rounds: list[MeasuredRound | None], errors: list[str]
    ) -> None:
        """One round of one target. After a failure the target is skipped for the rest of the group."""
        if errors:
            self._skip(round_, target, counts)
            rounds += [None] if counts else []
            return
        before, done = await target.status(), self._done
        after: list[Status] = []
        pairs: list[tuple[Case, Sample]] = []
        try:
            for step in round_:
                samples = await self._together(target, step, counts)
                after.append(await target.status())
                pairs += [
                    (scheduled.case, sample)
                    for scheduled, sample in zip(step, samples, strict=True)
                    if scheduled.case is not None
                ]
        except EngineError as e:
            self._error = self._error or e
            errors.append(e.message)
            rounds += [None] if counts else []
            self._done = done
            self._skip(round_, target, counts)
            return
        if counts:
            others = _others(before, after[-1], sum(len(step) for step in round_))
            if others:
                self._note("traffic", f"{others} other {'request' if others == 1 else 'requests'} ran meanwhile")
            labelled = tuple((case, replace(sample, others=others)) for case, sample in pairs)
            rounds.append(MeasuredRound(labelled, before, tuple(after)))

    async def _together(self, target: Target, step: Step, counts: bool) -> list[Sample]:
        """All questions of a step, each at its time. When one fails the others are cancelled."""
        first = asyncio.Event()
        tasks = [
            asyncio.create_task(self._ask(target, scheduled, first, i == 0, counts)) for i, scheduled in enumerate(step)
        ]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(
        self, target: Target, scheduled: ScheduledQuestion, first: asyncio.Event, leads: bool, counts: bool
    ) -> Sample:
        if scheduled.after_first:
            await first.wait()
        if scheduled.at_s:
            await asyncio.sleep(scheduled.at_s)
        sample = await target.ask(scheduled.question, first.set if leads else None)
        self._done += 1
        self._out.put_nowait(Progress(self._done, self._total, target.name, scheduled.case, sample, counts))
        return sample

    def _skip(self, round_: Round, target: Target, counts: bool) -> None:
        self._done += sum(len(step) for step in round_)
        self._out.put_nowait(Progress(self._done, self._total, target.name, None, None, counts))

    async def _prove(self, group: Group, errors: dict[str, list[str]]) -> dict[tuple[str, Case], ProofAnswers | str]:
        proofs: dict[tuple[str, Case], ProofAnswers | str] = {}
        for proof in await _off_loop(group.prove):
            for target in self._targets_of(group):
                if not errors[target.name]:
                    proofs[target.name, proof.case] = await canary.prove(target, proof)
        return proofs

    # -- the result

    def _settle(
        self,
        group: Group,
        rounds: dict[str, list[MeasuredRound | None]],
        errors: dict[str, list[str]],
        proofs: Proofs,
    ) -> None:
        """Add the group's points, ratios and facts to the result, as far as they were measured."""
        points = [point for name in rounds for point in points_of(group, name, rounds[name], errors[name], proofs)]
        for point in points:
            if is_noisy(point):
                self._note("spread", f"{point.words} of {point.target} is noisy")
            self._out.put_nowait(point)
        self._result = replace(
            self._result,
            points=self._result.points + tuple(points),
            compared=self._result.compared
            + tuple(comparisons(group, tuple(rounds), _pairs(self._targets_of(group)), points)),
            facts=self._result.facts + tuple((name, fact) for name in rounds for fact in facts_of(group, rounds[name])),
        )

    # -- the load of the machine

    async def _watch(self) -> None:
        """A Load every half second, and a note when swap has grown."""
        swap: int | None = None
        while not self._is_elsewhere:
            now = load.read(time.perf_counter() - self._began_s, self._targets[0].status_nowait())
            self._loads.append(now)
            self._out.put_nowait(now)
            if swap is not None and now.swap_bytes > swap + 16 * 2**20:
                self._note("swap", "the machine began to swap")
            swap = now.swap_bytes
            await asyncio.sleep(EVERY_S)

    def _note(self, kind: str, message: str) -> None:
        noise = Noise(time.perf_counter() - self._began_s, kind, message)
        self._noise.append(noise)
        self._out.put_nowait(noise)


def _pairs(targets: Sequence[Target]) -> list[tuple[str, str, bool]]:
    """The first target in this process with each other one in it, and the first server with each other server. A server
    that is alone is held against the first in this process."""
    firsts: dict[bool, str] = {}
    pairs = [(firsts.setdefault(target.in_process, target.name), target.name, target.in_process) for target in targets]
    servers = [target.name for target in targets if not target.in_process]
    if len(servers) == 1 and True in firsts:
        pairs.append((servers[0], firsts[True], True))
    return [pair for pair in pairs if pair[0] != pair[1]]


async def _off_loop(make: Any, *arguments: Any) -> Any:
    """Draw media in a thread, so that the loop's other users (the chat) are not blocked."""
    return await asyncio.to_thread(make, *arguments)


def _others(before: Status, after: Status, num_own: int) -> int:
    """Requests of others that a target got in between. num_own: requests of this run."""
    if before.num_requests is None or after.num_requests is None:
        return after.num_others
    return max(0, after.num_requests - before.num_requests - num_own) + before.num_others
