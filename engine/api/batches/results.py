"""The journal of a batch -> the lines of its two files, and what all of it cost. Blocks while a line is read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from engine.api.batches.lines import BatchLine
from engine.batch_run.journal import Journal
from engine.types import Json

EXPIRED = {"code": "batch_expired", "message": "The request was not answered before the batch's 24 hours were over."}
COUNTS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")


class BatchResults:
    """answered, failed, late: the lines by how they ended; late are those without a record once the batch has expired.

    What is written has the order of the lines."""

    def __init__(self, batch_id: str, lines: Sequence[BatchLine], journal: Journal, *, expired: bool) -> None:
        self._batch_id = batch_id
        self._journal = journal
        self._spent = dict.fromkeys(COUNTS, 0)
        entries = journal.entries
        self.answered = [line for line in lines if (e := entries.get(line.custom_id)) and not e.is_failed]
        self.failed = [line for line in lines if (e := entries.get(line.custom_id)) and e.is_failed]
        self.late = [line for line in lines if line.custom_id not in entries] if expired else []

    def answers(self) -> Iterator[bytes]:
        """The lines of the output file."""
        for number, line in enumerate(self.answered):
            response = self._record(line)["response"]
            self._spend(response["body"].get("usage") or {})
            yield self._line(f"output_{number}", line, response, None)

    def failures(self) -> Iterator[bytes]:
        """The lines of the error file."""
        for number, line in enumerate(self.failed):
            error = self._record(line)["error"]
            body = {"error": {name: error[name] for name in ("message", "type", "param", "code")}}
            response = {"status_code": error["status"], "request_id": f"{self._batch_id}_{number}", "body": body}
            yield self._line(f"error_{number}", line, response, None)
        for number, line in enumerate(self.late, len(self.failed)):
            yield self._line(f"error_{number}", line, None, EXPIRED)

    def usage(self) -> Json:
        """Tokens of all answers, once these were read."""
        spent = self._spent
        return {
            "input_tokens": spent["input_tokens"],
            "input_tokens_details": {"cached_tokens": spent["cached_tokens"]},
            "output_tokens": spent["output_tokens"],
            "output_tokens_details": {"reasoning_tokens": spent["reasoning_tokens"]},
            "total_tokens": spent["input_tokens"] + spent["output_tokens"],
        }

    def _spend(self, usage: Json) -> None:
        """usage: of an answer, in the words of its protocol."""
        read, written = ("prompt", "completion") if "prompt_tokens" in usage else ("input", "output")
        self._spent["input_tokens"] += usage.get(f"{read}_tokens", 0)
        self._spent["cached_tokens"] += (usage.get(f"{read}_tokens_details") or {}).get("cached_tokens", 0)
        self._spent["output_tokens"] += usage.get(f"{written}_tokens", 0)
        self._spent["reasoning_tokens"] += (usage.get(f"{written}_tokens_details") or {}).get("reasoning_tokens", 0)

    def _record(self, line: BatchLine) -> Json:
        record = self._journal.record(line.custom_id)
        assert record is not None, "it has an entry"
        return record

    def _line(self, name: str, line: BatchLine, response: Json | None, error: Json | None) -> bytes:
        request_id = f"batch_req_{self._batch_id.removeprefix('batch_')}_{name}"
        value = {"id": request_id, "custom_id": line.custom_id, "response": response, "error": error}
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
