"""The options of the request log."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from engine.arguments.engine import add_engine_arguments, engine_config
from engine.arguments.request_log import add_request_log_arguments
from engine.config import EngineConfig, LogLimits
from engine.errors import BadRequest


def limits(*argv: str) -> LogLimits:
    parser = argparse.ArgumentParser()
    add_engine_arguments(parser)
    add_request_log_arguments(parser)
    return engine_config(parser.parse_args(argv)).request_log


def test_they_are_read(tmp_path: Path) -> None:
    assert limits() == EngineConfig().request_log
    found = limits("--request-log", "7", "--request-log-mb", "3", "--request-log-file", str(tmp_path / "log.jsonl"))
    assert (found.num_requests, found.max_bytes, found.file) == (7, 3 * 1024**2, tmp_path / "log.jsonl")


def test_a_file_for_what_is_not_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="--request-log-file"):
        limits("--request-log", "0", "--request-log-file", str(tmp_path / "log.jsonl"))
