"""vllm-mlx launch as a person runs it: what it writes, what it asks, and that it takes everything back."""

from __future__ import annotations

import json
import os
import pty
import stat
import tomllib
from pathlib import Path

import pytest
import yaml

from engine.launch.recipes import RECIPES
from tests.engine.launch.conftest import KEY, Home

MINE = {
    ".codex/config.toml": b'# mine\r\nmodel = "gpt"\r\n\r\n[model_providers.other]\r\nname = "Other"\r\n',
    ".claude/settings.json": b'{\n\t"env": {"ANTHROPIC_MODEL": "opus", "A": "\xc3\xbc"},\n\t"permissions": {}\n}',
    ".config/opencode/opencode.json": b'\xef\xbb\xbf{"theme": "x", "provider": {"mine": {"npm": "y"}}}',
    ".continue/config.yaml": b"name: Mine  # mine\nversion: 0.0.1\nmodels:\n    - name: a\n      provider: b\n",
    ".config/io.datasette.llm/extra-openai-models.yaml": b"# mine\n- model_id: a\n  model_name: b\n",
    ".config/io.datasette.llm/keys.json": b'{"// Note": "This file stores secrets.", "openai": "sk-x"}\n',
    ".config/mlx-workbench/open-webui.env": b"# mine\nWEBUI_NAME=x=y\n",
}


LATER = {"toml": "\n[later]\nx = 1\n", "yaml": "\n# later\n", "env": "\nLATER=1\n"}


def fill(home: Home) -> None:
    for name, data in MINE.items():
        path = home.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@pytest.mark.parametrize("name", sorted(RECIPES))
@pytest.mark.parametrize("has_files", [False, True], ids=["new", "beside mine"])
def test_what_is_written_is_taken_back_exactly(home: Home, name: str, has_files: bool) -> None:
    if has_files:
        fill(home)
    before = home.tree()
    said = home.set_up(name)
    changed = home.tree()
    assert changed != before and any(home.url.encode() in data for data in changed.values())
    assert KEY not in said and home.url in said, "the difference is shown, the key is not"
    assert set(before) <= set(changed)
    assert "already" in home.set_up(name) and home.tree() == changed, "twice is once"
    home.undo(name)
    assert home.tree() == before
    assert "nothing to take back" in home.undo(name)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_what_the_user_writes_afterwards_stays(home: Home, name: str) -> None:
    """The files are changed by hand before --undo: the settings go, the changes stay."""
    fill(home)
    home.set_up(name)
    for file in RECIPES[name].files:
        path = file.place.path(home.environment)
        text = path.read_bytes().decode()
        if file.format == "json":
            added = text[: text.rindex("}")].rstrip() + ', "later": true}'
        else:
            added = text.rstrip("\r\n") + LATER[file.format]
        path.write_bytes(added.encode())
    home.undo(name)
    assert all(home.url.encode() not in data and KEY.encode() not in data for data in home.tree().values())
    for file in RECIPES[name].files:
        if (path := file.place.path(home.environment)).exists():
            assert "later" in path.read_text().lower()


def test_another_port_replaces_the_first_and_undo_leads_before_both(home: Home) -> None:
    fill(home)
    before = home.tree()
    home.set_up("codex")
    done = home.launch("codex", "--url", "http://127.0.0.1:9", "--model", "other", "--yes", "--no-start")
    assert done.returncode == 0, done.stderr
    config = tomllib.loads((home.folder / ".codex/config.toml").read_bytes().decode())
    assert config["model_providers"]["mlx-workbench"]["base_url"] == "http://127.0.0.1:9/v1"
    assert "experimental_bearer_token" not in config["model_providers"]["mlx-workbench"], "no key was asked for"
    assert config["model_providers"]["other"] == {"name": "Other"} and config["model"] == "gpt"
    home.undo("codex")
    assert home.tree() == before


def test_what_the_programs_read(home: Home) -> None:
    for name in RECIPES:
        home.set_up(name)
    read = home.folder
    claude = json.loads((read / ".claude/settings.json").read_text())["env"]
    assert claude["ANTHROPIC_BASE_URL"] == home.url and claude["ANTHROPIC_AUTH_TOKEN"] == KEY
    profile = tomllib.loads((read / ".codex/mlx-workbench.config.toml").read_text())
    assert profile["model"] == "demo" and profile["model_context_window"] > 1000
    (model,) = yaml.safe_load((read / ".continue/config.yaml").read_text())["models"]
    assert model["apiBase"] == f"{home.url}/v1" and "image_input" in model["capabilities"]
    code = json.loads((read / ".config/opencode/opencode.json").read_text())["provider"]["mlx-workbench"]
    assert code["models"]["demo"]["modalities"]["input"] == ["text", "image"]
    for path in home.tree():
        assert stat.S_IMODE((read / path).stat().st_mode) == 0o600, "they hold a key"


def test_it_starts_what_is_installed(home: Home) -> None:
    assert "not installed here (npm install -g @openai/codex)" in home.set_up("codex")
    home.program("codex")
    assert "bin/codex --profile mlx-workbench" in home.set_up("codex")
    assert "started" not in home.set_up("codex", "--no-start")
    home.program("open-webui")
    said = home.set_up("open-webui")
    assert "bin/open-webui serve" in said and f"OPENAI_API_BASE_URL={home.url}/v1" in said
    home.program("opencode")
    assert "--model mlx-workbench/demo" in home.set_up("opencode")
    listed = home.launch().stdout
    assert "codex        Codex        set up, installed" in listed and "llm          llm\n" in listed


SECRETS = {
    ".codex/config.toml": (
        '# key: sk-in-a-comment\nnotify = ["sk-in-a-list"]\n[model_providers.mlx-workbench]  # sk-behind-it\n'
        'base_url = "http://me:sk-in-a-url@x"\nexperimental_bearer_token = "sk-of-old"\n'
    ),
    ".claude/settings.json": (
        '{"env": {"ANTHROPIC_AUTH_TOKEN": "sk-of-old", "OTHER": "sk-beside"}, "apiKeyHelper": "echo sk-in-a-command"}'
    ),
    ".config/opencode/opencode.json": (
        '{"provider": {"mlx-workbench": {"options": {"headers": {"x-mine": "sk-in-a-header"}}}, "a": {"key": "sk-a"}}}'
    ),
    ".continue/config.yaml": (
        "# sk-in-a-comment\nmodels:\n  - name: MLX Workbench  # sk-behind-it\n    apiKey: sk-of-old\n"
        "  - {name: b, apiKey: sk-b}\n"
    ),
    ".config/io.datasette.llm/extra-openai-models.yaml": "- model_id: mlx-workbench\n  headers: {x-mine: sk-h}\n",
    ".config/io.datasette.llm/keys.json": '{"openai": "sk-x", "mlx-workbench": "sk-of-old", "pin": "sk-pin"}',
    ".config/mlx-workbench/open-webui.env": "# sk-in-a-comment\nOPENAI_API_KEY=sk-of-old\nsk-on-a-line\nDB=sk-d\n",
}


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_no_secret_of_a_file_is_shown(home: Home, name: str) -> None:
    """Neither a key that is replaced nor one that comes back, nor what stands beside them or in a comment; nor this
    server's own key, when it is taken out again."""
    for path, text in SECRETS.items():
        file = home.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    said = home.set_up(name)
    assert home.url in said and "•••• (changed)" in said, "what is written is shown, and that a key is"
    rewritten = home.launch(name, "--url", home.url, "--api-key", KEY, "--model", "demo", "--yes", "--no-start")
    back = home.launch(name, "--undo", "--yes").stdout
    assert back.count("\n") > 2, "what is taken back is shown, too"
    for shown in (said, rewritten.stdout, back):
        assert "sk-" not in shown
    for path, text in SECRETS.items():
        assert (home.folder / path).read_text() == text


def test_what_an_earlier_record_does_not_call_open_is_hidden(home: Home) -> None:
    home.set_up("llm")
    record = home.folder / ".local/state/mlx-workbench/launch/llm.json"
    record.write_text(record.read_text().replace('"is_secret": false', '"x": 0').replace('"is_secret": true', '"x": 0'))
    said = home.undo("llm")
    assert KEY not in said and home.url not in said and "••••" in said


def test_nothing_is_written_without_a_yes(home: Home) -> None:
    fill(home)
    before = home.tree()
    done = home.launch("codex", "--url", home.url, "--api-key", KEY)
    assert done.returncode == 1 and "--yes" in done.stderr and "+[model_providers.mlx-workbench]" in done.stdout
    for answer, status in (("n\n", 1), ("\n", 1), ("y\n", 0)):
        assert home.tree() == before
        parent, child = pty.openpty()
        os.write(parent, answer.encode())
        asked = home.run("codex", "--url", home.url, "--api-key", KEY, stdin=child)
        os.close(parent), os.close(child)
        assert asked.returncode == status and "Write this? [y/N]" in asked.stdout
    assert home.tree() != before


@pytest.mark.parametrize(
    ("name", "path", "content", "words"),
    [
        ("claude-code", ".claude/settings.json", b'{"a": 1, // mine\n}', "cannot be read as JSON"),
        ("claude-code", ".claude/settings.json", b'{"env": "x"}', "at env there is no mapping"),
        ("claude-code", ".claude/settings.json", b"\xff\xfe{\x00}\x00", "not UTF-8"),
        ("codex", ".codex/config.toml", b"model = ", "cannot be read as TOML"),
        ("codex", ".codex/config.toml", b"model_providers = 1\n", "at model_providers there is no mapping"),
        ("continue", ".continue/config.yaml", b"models:\n  a: b\n", "at models there is no list"),
        ("continue", ".continue/config.yaml", b"\tx: [", "cannot be read as YAML"),
        ("llm", ".config/io.datasette.llm/extra-openai-models.yaml", b"a: b\n", "there is no list"),
        ("opencode", ".config/opencode/opencode.json", b"[]", "there is no mapping"),
        ("opencode", ".config/opencode/opencode.json", b" " * (8 * 1024 * 1024 + 1), "larger than"),
    ],
)
def test_files_that_cannot_be_changed_stay_as_they_are(
    home: Home, name: str, path: str, content: bytes, words: str
) -> None:
    file = home.folder / path
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    before = home.tree()
    done = home.launch(name, "--url", home.url, "--api-key", KEY, "--yes")
    assert done.returncode == 1 and words in done.stderr and path in done.stderr and "Traceback" not in done.stderr
    assert home.tree() == before and not (home.folder / ".local").exists()


def test_links_and_rights_stay(home: Home) -> None:
    """Settings are often links into a folder that is kept elsewhere."""
    kept = home.folder / "dotfiles" / "claude.json"
    kept.parent.mkdir()
    kept.write_text('{"a": 1}')
    kept.chmod(0o640)
    link = home.folder / ".claude" / "settings.json"
    link.parent.mkdir()
    link.symlink_to(kept)
    home.set_up("claude-code")
    assert link.is_symlink() and "ANTHROPIC" in kept.read_text() and stat.S_IMODE(kept.stat().st_mode) == 0o640
    home.undo("claude-code")
    assert link.is_symlink() and kept.read_text() == '{"a": 1}' and list(kept.parent.iterdir()) == [kept]


def test_folders_that_variables_name(home: Home) -> None:
    elsewhere = home.folder / "else where"
    names = ("CODEX_HOME", "CLAUDE_CONFIG_DIR", "CONTINUE_GLOBAL_DIR", "LLM_USER_PATH", "XDG_CONFIG_HOME")
    home.variables = {name: str(elsewhere / name) for name in names}
    for name in RECIPES:
        home.set_up(name)
    assert all(path.startswith("else where/") for path in home.tree()) and len(home.tree()) == 8
    for name in RECIPES:
        home.undo(name)
    assert home.tree() == {}


def test_a_damaged_record_changes_nothing(home: Home) -> None:
    home.set_up("codex")
    before = home.tree()
    record = home.folder / ".local/state/mlx-workbench/launch/codex.json"
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    for text in ("", "{", "[]", '{"files": [{"path": 1}]}'):
        record.write_text(text)
        for arguments in (("--undo", "--yes"), ("--url", home.url, "--api-key", KEY, "--yes")):
            done = home.launch("codex", *arguments)
            assert done.returncode == 1 and "damaged" in done.stderr and "Traceback" not in done.stderr
    assert home.tree() == before


def test_a_file_that_was_deleted_meanwhile_is_not_made_again(home: Home) -> None:
    fill(home)
    home.set_up("codex")
    (home.folder / ".codex/config.toml").unlink()
    home.undo("codex")
    assert ".codex/config.toml" not in home.tree()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--url", "http://127.0.0.1:9"), "No server answers at http://127.0.0.1:9"),
        (("--url", "nonsense"), "is not like http://localhost:8000"),
        (("--url", "http://"), "is not like"),
        (("--url", "file:///etc/passwd"), "is not like"),
        (("--api-key", "wrong"), "asks for a key"),
        (("--api-key", KEY, "--model", "gpt"), "serves demo, not 'gpt'"),
    ],
)
def test_a_port_that_cannot_be_used_is_said(home: Home, arguments: tuple[str, ...], words: str) -> None:
    url = () if "--url" in arguments else ("--url", f"{home.url}/v1/")
    done = home.launch("codex", "--yes", *url, *arguments)
    assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert home.tree() == {}


def test_the_key_comes_from_the_environment_too(home: Home) -> None:
    home.variables = {"VLLM_API_KEY": KEY}
    assert home.launch("claude-code", "--url", home.url, "--yes").returncode == 0
    assert KEY in (home.folder / ".claude/settings.json").read_text()


def test_a_folder_that_cannot_be_written(home: Home) -> None:
    (home.folder / ".codex").write_text("a file where a folder should be")
    done = home.launch("codex", "--url", home.url, "--api-key", KEY, "--yes")
    assert done.returncode == 1 and "cannot be" in done.stderr and "Traceback" not in done.stderr
    assert Path(home.folder / ".codex").read_text().startswith("a file")
