"""vllm-mlx doctor: every check, one line each, with what to do. Exit status 1 where something keeps it from working."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

from engine.doctor.diagnosis import Diagnosis

MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


def parser() -> argparse.ArgumentParser:
    """The command's own --help."""
    made = argparse.ArgumentParser(
        prog="vllm-mlx doctor",
        description="Check this machine and this installation: device, BLAS, packages, commands, codecs, memory, ports "
        "and folders, each with what to do. Ends with 0 unless something keeps the server from working.",
    )
    made.add_argument("--json", action="store_true", help="print the findings as JSON")
    return made


def run(args: argparse.Namespace) -> int:
    """Returns the exit status."""
    findings = examine()
    print(json.dumps([asdict(finding) for finding in findings], indent=1) if args.json else report(findings))
    return 1 if any(finding.verdict == "fail" for finding in findings) else 0


def examine() -> list[Diagnosis]:
    """All findings about this machine, in the order in which a person reads them."""
    from engine.doctor import installation, machine

    limit = machine.wired_limit()
    return [
        installation.python(),
        installation.requirements(),
        *installation.console_commands(),
        machine.mlx(),
        machine.speed(),
        machine.memory(),
        *([limit] if limit else []),
        installation.codecs(),
        *machine.ports(),
        machine.files(),
        *machine.folders(),
        machine.shipped_files(),
    ]


def report(findings: Sequence[Diagnosis]) -> str:
    """A line for each, the remedy under it, and a sum."""
    lines = []
    for finding in findings:
        lines.append(f"{MARKS[finding.verdict]}  {finding.name}: {finding.text}")
        if finding.remedy:
            lines.append(f"      {finding.remedy}")
    bad = sum(finding.verdict == "fail" for finding in findings)
    gaps = sum(finding.verdict == "warn" for finding in findings)
    lines.append(f"{len(findings)} checks: {bad} failed, {gaps} with a gap that one can live with.")
    return "\n".join(lines)
