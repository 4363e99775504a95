"""Runs suites and tells what happens, as a stream of frozen events. On one event loop; drawing media is done off it.

    run = Run(suites, targets, settings)
    async for event in run.events(): ...
    run.stop()          ends the answer that runs; Finished follows with what was measured
    run.result()        at any time, also after events() was closed or cancelled

Targets are asked in turns, one at a time, the same rounds; who is first changes from round to round, so that a machine
that gets slower or faster favours nobody.
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
from engine.measure.bench import canary, load
from engine.measure.bench.about import roofline
from engine.measure.bench.events import Finished, Noise, Progress, RunEvent, Started
from engine.measure.bench.load import EVERY_S, Load
from engine.measure.bench.plan import Ask, BenchSettings, Case, Group, Measured, Round, Step, Suite, chosen
from engine.measure.bench.points import compared, facts_of, points_of
from engine.measure.bench.questions import Question, words
from engine.measure.bench.result import Result, is_noisy
from engine.measure.bench.samples import Sample
from engine.measure.bench.targets import Status, Target

WARM_UP = 1_000_000
"""Warm-up rounds are numbered from here, so that none of them is asked again when it counts."""

FEW_RUNNING = 0.5
"""A load average above this share of the cores when a run begins is said."""

SEEDS = 10**9
MEASURED_WORDS = (20, 120)


class Run:
    """One run of one or several suites. Make it, read its events once. `about` goes into the result as it is
    (machine, model, versions)."""

    def __init__(
        self,
        suites: Sequence[Suite],
        targets: Sequence[Target],
        settings: BenchSettings,
        about: dict[str, Any] | None = None,
    ) -> None:
        settings = replace(settings, seed=settings.seed or secrets.randbelow(SEEDS) + 1)
        self.settings = settings
        self._suites = tuple(suites)
        self._targets = tuple(targets)
        self._aside = {group.beside for group in self._all_groups()}
        self._groups = self._chosen()
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
        self._of = 0
        self._loads: list[Load] = []
        self._noise: list[Noise] = []
        self._error: EngineError | None = None

    def _all_groups(self) -> list[Group]:
        return [group for suite in self._suites for group in suite.groups(self.settings)]

    def _chosen(self) -> list[Group]:
        groups = self._all_groups()
        found = chosen(groups, self.settings.only)
        if not found:
            names = ", ".join(case.name for group in groups for case in group.cases)
            raise BadRequest(f"There is no case {', '.join(self.settings.only)}. There are: {names}.", param="case")
        return [group for group in found if self._asked(group)]

    def _asked(self, group: Group) -> tuple[Target, ...]:
        """Whom a group is asked of."""
        if group.servers:
            return tuple(target for target in self._targets if not target.in_process)
        if not group.beside:
            return tuple(target for target in self._targets if target.name not in self._aside)
        found = [target for target in self._targets if target.name == group.beside]
        return (self._targets[0], *found) if found else ()

    def result(self) -> Result:
        """What was measured so far."""
        found = self._result
        return replace(
            found,
            loads=tuple(self._loads),
            notes=tuple(dict.fromkeys(noise.said for noise in self._noise if noise.what != "spread")),
            roofline=roofline(found.points, found.targets[0], found.machine, found.model),
        )

    def stop(self) -> None:
        """End the answer that runs. From the loop that reads the events; harmless when nothing runs."""
        if self._task is not None:
            self._task.cancel()

    async def events(self) -> AsyncGenerator[RunEvent, None]:
        """Started, then what happens, then Finished. Closing it, or being cancelled in it, is stopping.

        Raises EngineError when nothing at all could be measured.
        """
        self._task = asyncio.create_task(self._measure())
        watching = asyncio.create_task(self._watch())
        try:
            while (event := await self._out.get()) is not None:
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            self._result = replace(self._result, stopped=self._result.stopped or not self._task.done())
            for task in (self._task, watching):
                task.cancel()
            for task in (self._task, watching):
                with suppress(asyncio.CancelledError):
                    await task

    # measuring

    async def _measure(self) -> None:
        """The body: everything is put into the queue, last Finished and None."""
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
        except Exception as e:  # a fault of the harness must reach who reads, not end in a task nobody awaits
            error = e
        self._out.put_nowait(error or Finished(self.result()))
        self._out.put_nowait(None)

    async def _begin(self) -> None:
        if any(suite.sized for suite in self._suites):
            per_word = await self._tokens_per_word(self._targets[0])
            self.settings = replace(self.settings, tokens_per_word=per_word)
            self._result = replace(self._result, settings=self.settings)
            self._groups = self._chosen()
        rounds = self.settings.prompts + self.settings.warmup
        for group in self._groups:
            asks = sum(len(step) for step in await _off_loop(group.make, 0))
            self._of += asks * rounds * len(self._asked(group))
        cases = tuple(case for group in self._groups for case in group.cases)
        names = self._result.targets
        self._out.put_nowait(Started(self._result.suites, cases, names, self._of, self.settings))
        if unasked := [group for group in self._all_groups() if group.beside and not self._asked(group)]:
            said = ", ".join(case.name for group in unasked for case in group.cases)
            self._note("skipped", f"not measured, for want of a target {unasked[0].beside!r}: {said}")
        busy, cores = os.getloadavg()[0], os.cpu_count() or 1
        if busy > FEW_RUNNING * cores:
            self._note("busy", f"load average {busy:.1f} on {cores} cores when it began")
        if said := load.thermal_note():
            self._note("thermal", said)

    async def _tokens_per_word(self, target: Target) -> float:
        """From two prompts of different length, so that the template does not count."""
        found = []
        for count in MEASURED_WORDS:
            sample = await target.ask(Question(words((self.settings.seed, "length", count), count), 1))
            found.append(sample.prompt_tokens)
        return max(0.1, (found[1] - found[0]) / (MEASURED_WORDS[1] - MEASURED_WORDS[0]))

    async def _group(self, group: Group) -> None:
        targets = self._asked(group)
        taken: dict[str, list[Measured | None]] = {target.name: [] for target in targets}
        errors: dict[str, list[str]] = {target.name: [] for target in targets}
        try:
            for number in range(-self.settings.warmup, self.settings.prompts):
                made = await _off_loop(group.make, number if number >= 0 else WARM_UP - number)
                turns = targets if number % 2 == 0 else tuple(reversed(targets))
                for target in turns:
                    await self._turn(target, made, number >= 0, taken[target.name], errors[target.name])
        except asyncio.CancelledError:
            # What was measured of this group is kept, without the canary's questions.
            self._settle(group, taken, errors, {})
            raise
        proofs = await self._prove(group, errors)
        self._settle(group, taken, errors, proofs)

    async def _turn(
        self, target: Target, made: Round, counts: bool, taken: list[Measured | None], errors: list[str]
    ) -> None:
        """One round of one target; one that fails is noted, and the target is not asked in this group again."""
        if errors:
            self._skip(made, target, counts)
            taken += [None] if counts else []
            return
        before, done = await target.status(), self._done
        after: list[Status] = []
        pairs: list[tuple[Case, Sample]] = []
        try:
            for step in made:
                found = await self._together(target, step, counts)
                after.append(await target.status())
                pairs += [(ask.case, sample) for ask, sample in zip(step, found, strict=True) if ask.case is not None]
        except EngineError as e:
            self._error = self._error or e
            errors.append(e.message)
            taken += [None] if counts else []
            self._done = done
            self._skip(made, target, counts)
            return
        if counts:
            others = _others(before, after[-1], sum(len(step) for step in made))
            if others:
                self._note("traffic", f"{others} requests of others came meanwhile")
            marked = tuple((case, replace(sample, others=others)) for case, sample in pairs)
            taken.append(Measured(marked, before, tuple(after)))

    async def _together(self, target: Target, step: Step, counts: bool) -> list[Sample]:
        """All asks of a step at once, each at its time. When one fails the others are ended."""
        first = asyncio.Event()
        tasks = [asyncio.create_task(self._ask(target, ask, first, i == 0, counts)) for i, ask in enumerate(step)]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, target: Target, ask: Ask, first: asyncio.Event, leads: bool, counts: bool) -> Sample:
        if ask.after_first:
            await first.wait()
        if ask.at_s:
            await asyncio.sleep(ask.at_s)
        sample = await target.ask(ask.question, first.set if leads else None)
        self._done += 1
        self._out.put_nowait(Progress(self._done, self._of, target.name, ask.case, sample, counts))
        return sample

    def _skip(self, made: Round, target: Target, counts: bool) -> None:
        self._done += sum(len(step) for step in made)
        self._out.put_nowait(Progress(self._done, self._of, target.name, None, None, counts))

    async def _prove(self, group: Group, errors: dict[str, list[str]]) -> dict[tuple[str, Case], canary.Proven | str]:
        proven: dict[tuple[str, Case], canary.Proven | str] = {}
        for proof in await _off_loop(group.prove):
            for target in self._asked(group):
                if not errors[target.name]:
                    proven[target.name, proof.case] = await canary.prove(target, proof)
        return proven

    # what came of it

    def _settle(
        self,
        group: Group,
        taken: dict[str, list[Measured | None]],
        errors: dict[str, list[str]],
        proven: dict[tuple[str, Case], canary.Proven | str],
    ) -> None:
        """The group's points, ratios and facts, as far as they were measured."""
        found = [point for name in taken for point in points_of(group, name, taken[name], errors[name], proven)]
        for point in found:
            if is_noisy(point):
                self._note("spread", f"{point.case.name} of {point.target} is noisy")
            self._out.put_nowait(point)
        self._result = replace(
            self._result,
            points=self._result.points + tuple(found),
            compared=self._result.compared + tuple(compared(group, tuple(taken), _rivals(self._asked(group)), found)),
            facts=self._result.facts + tuple((name, fact) for name in taken for fact in facts_of(group, taken[name])),
        )

    # the machine meanwhile

    async def _watch(self) -> None:
        """A Load every half second; a mark where swap grew."""
        swap: int | None = None
        while True:
            now = load.read(time.perf_counter() - self._began_s, self._targets[0].glance())
            self._loads.append(now)
            self._out.put_nowait(now)
            if swap is not None and now.swap_bytes > swap + 16 * 2**20:
                self._note("swap", "the machine began to swap")
            swap = now.swap_bytes
            await asyncio.sleep(EVERY_S)

    def _note(self, what: str, said: str) -> None:
        noise = Noise(time.perf_counter() - self._began_s, what, said)
        self._noise.append(noise)
        self._out.put_nowait(noise)


def _rivals(targets: Sequence[Target]) -> list[tuple[str, str, bool]]:
    """The first target of each kind against the others of its kind."""
    firsts: dict[bool, str] = {}
    pairs = [(firsts.setdefault(one.in_process, one.name), one.name, one.in_process) for one in targets]
    return [pair for pair in pairs if pair[0] != pair[1]]


async def _off_loop(make: Any, *arguments: Any) -> Any:
    """Draw media in a thread: whoever shares the loop (the chat) goes on."""
    return await asyncio.to_thread(make, *arguments)


def _others(before: Status, after: Status, mine: int) -> int:
    """Requests that came to a target meanwhile and were not the run's own."""
    if before.num_requests is None or after.num_requests is None:
        return after.num_others
    return max(0, after.num_requests - before.num_requests - mine) + before.num_others
