#!/usr/bin/env bash
# Install everything the tests need (a browser included) into .venv, then lint, type-check and run them.
# Arguments go to pytest: `bash tests/run.sh -k chat`. PYTHON chooses the interpreter (3.11 or newer).
set -euo pipefail
cd "$(dirname "$0")/.."

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

have_browser() {
  command -v chromium || command -v chromium-browser || command -v google-chrome \
    || [ -d "/Applications/Google Chrome.app" ] || [ -d "/Applications/Chromium.app" ]
}

# Linux: Debian's Chromium, and OpenBLAS for MLX on the CPU (opencv-python's own serves where it is missing).
if ! have_browser >/dev/null && command -v apt-get >/dev/null; then
  as_root apt-get update -qq
  as_root apt-get install -y -qq chromium libopenblas0-pthread
fi

[ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
.venv/bin/python -m pip install --quiet --upgrade pip
.venv/bin/python -m pip install --quiet --editable '.[dev]'
have_browser >/dev/null || .venv/bin/playwright install chromium

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy

# Two at a time, but for the browser's: a browser beside two engines on two cores keeps nobody's patience.
if [ "$#" -gt 0 ]; then
  exec .venv/bin/python -m pytest "$@"
fi
.venv/bin/python -m pytest --numprocesses 2 --dist loadfile --ignore tests/browser
.venv/bin/python -m pytest tests/browser
