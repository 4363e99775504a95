#!/usr/bin/env bash
# Installs everything the tests need (a browser and Node.js included), then lints, type-checks and runs them.
# Arguments go to pytest: `bash tests/run.sh -k chat`.
#   PYTHON=python3.13   the interpreter for .venv, 3.11 or newer
#   CONSTRAINTS=        the newest versions that pyproject.toml allows, instead of those in tests/constraints.txt
set -euo pipefail
cd "$(dirname "$0")/.."

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

have() { command -v "$1" >/dev/null; }

have_browser() {
  have chromium || have chromium-browser || have google-chrome \
    || [ -d "/Applications/Google Chrome.app" ] || [ -d "/Applications/Chromium.app" ]
}

unset PYTHONDONTWRITEBYTECODE  # hundreds of processes of the tests import the same files

# Linux: Debian's Chromium, OpenBLAS for MLX on the CPU (opencv-python's own serves where it is missing), Node.js, and
# FFmpeg's program, which writes one clip (Theora) that the library's wheel cannot; its test is skipped without it.
# Where there is a shell of Chromium, most tests use it: a page costs it half the processor time. Some need the whole of it.
install_programs() {
  if have apt-get && ! { have_browser && have npm && have ffmpeg; }; then
    as_root apt-get update -qq
    have chromium-headless-shell || as_root apt-get install -y -qq chromium-headless-shell || true
    have_browser || as_root apt-get install -y -qq chromium libopenblas0-pthread
    have ffmpeg || as_root apt-get install -y -qq --no-install-recommends ffmpeg
    have npm || as_root apt-get install -y -qq --no-install-recommends nodejs npm
  fi
}

install_programs &  # beside pip
programs=$!
[ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
constraints="${CONSTRAINTS-tests/constraints.txt}"
.venv/bin/python -m pip install --quiet --upgrade pip
.venv/bin/python -m pip install --quiet --editable '.[dev]' ${constraints:+--constraint "$constraints"}
wait "$programs"
have npm || { echo "tests/run.sh: Node.js 18.18 or newer is missing; install it (on a Mac: brew install node)." >&2; exit 1; }
have_browser || .venv/bin/playwright install chromium

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy &  # it takes one core for a minute, beside the checks of the page
types=$!
trap 'kill "$types" 2>/dev/null || true' EXIT
[ tests/page/node_modules/.package-lock.json -nt tests/page/package-lock.json ] \
  || npm --prefix tests/page ci --silent --no-audit --no-fund
npm --prefix tests/page run --silent lint
npm --prefix tests/page run --silent test
wait "$types"
trap - EXIT

if [ "$#" -gt 0 ]; then
  exec .venv/bin/python -m pytest "$@"
fi
# Two at a time; the browser's, which mostly wait for a page, not beside those that compute.
# They run in any case: who mends a failure wants to know all of them.
status=0
.venv/bin/python -m pytest --numprocesses 2 --dist loadfile --ignore tests/browser || status=1
.venv/bin/python -m pytest --numprocesses 2 --dist loadfile tests/browser || status=1
exit "$status"
