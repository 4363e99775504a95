"""LLM in a script that mlx.launch starts twice: the lines behind it run once, and answer as one process does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from engine import LLM, SamplingParams
from tests.engine.ranks.processes import ROOT, free_ports

PROMPTS = ["def main():", "import os", "class One:"]
SCRIPT = """
import json, sys
from engine import LLM, SamplingParams

llm = LLM(sys.argv[1], tensor_parallel_size=2)
outputs = llm.generate({prompts!r}, SamplingParams(temperature=0, max_tokens=8), use_tqdm=False)
print("ANSWERS", json.dumps([output.outputs[0].token_ids for output in outputs]), flush=True)
llm.close()
try:
    LLM(sys.argv[1], tensor_parallel_size=2)
except Exception as error:
    print("SECOND", type(error).__name__, error, flush=True)
"""
TIMEOUT_S = 90


def test_a_script(divisible_model: Callable[[str], Path], tmp_path: Path) -> None:
    model, script = divisible_model("qwen3"), tmp_path / "script.py"
    script.write_text(SCRIPT.format(prompts=PROMPTS))
    (port,) = free_ports(1)
    launch = [str(Path(sys.executable).with_name("mlx.launch")), "-n", "2", "--backend", "ring", "-p", str(port)]
    launched = subprocess.Popen(
        [*launch, "--", sys.executable, str(script), str(model)],
        cwd=tmp_path,
        stdin=subprocess.PIPE,  # without end
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with LLM(model) as alone:
        outputs = alone.generate(PROMPTS, SamplingParams(temperature=0, max_tokens=8), use_tqdm=False)
    try:
        assert launched.stdout is not None
        said = launched.stdout.read()
        assert launched.wait(TIMEOUT_S) == 0
    finally:
        launched.kill()
        launched.wait()
    answers = [line.removeprefix("ANSWERS ") for line in said.splitlines() if line.startswith("ANSWERS ")]
    assert [json.loads(answer) for answer in answers] == [[list(output.outputs[0].token_ids) for output in outputs]], (
        said
    )
    assert "exited with code" not in said, said
    assert "SECOND Conflict tensor_parallel_size 2: a script has one model" in said, said
