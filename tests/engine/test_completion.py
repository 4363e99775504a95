"""vllm-mlx completion: a script for the shell, which knows every command and its options."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from engine import cli, completion


def test_every_command_and_option_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    for word in (*cli.COMMANDS, "serve", "--max-num-seqs", "--undo", "--json", "--follow"):
        assert word in script, word
    with pytest.raises(SystemExit):
        cli.main(["completion", "fish"])


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize(("typed", "wanted"), [("vllm-mlx doc", "doctor"), ("vllm-mlx doctor --js", "--json")])
def test_bash_completes(typed: str, wanted: str) -> None:
    """The function that bash calls, called as bash does."""
    import shtab

    words = typed.split()
    quoted = " ".join(f"'{word}'" for word in words)
    script = shtab.complete(completion.whole_parser(), "bash")
    ask = f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _shtab_vllm_mlx; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=False)
    assert wanted in done.stdout.split(), done.stdout + done.stderr
