"""The page for the tests: where its uploads go, and a person in front of it (a headless browser)."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WHOLE_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSERS = ("chromium-headless-shell", *WHOLE_BROWSERS)
"""The first that is there. The shell is Chromium without the frame of a window: a page costs it half as much."""
MAC_BROWSERS = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
QUIET = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
QUIET += ("--disable-component-update", "--disable-sync", "--disable-quic")
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 820}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}

SCHEMES = {"desktop-light": (DESKTOP, "light"), "phone-dark": (PHONE, "dark")}
if "WORKBENCH_ARTIFACTS" in os.environ:  # somebody wants to look at the pictures
    SCHEMES |= {"desktop-dark": (DESKTOP, "dark"), "phone-light": (PHONE, "light")}
LOOKS = {name: {**window, "color_scheme": scheme} for name, (window, scheme) in SCHEMES.items()}
"""Contexts for `Person`: both sizes and both schemes; every pair of them where WORKBENCH_ARTIFACTS is set."""

AT_REST = """async () => {
  for (let frames = 0; frames < 2; frames += 1) await new Promise(requestAnimationFrame);
  const ends = document.getAnimations().filter((one) => Number.isFinite(one.effect?.getComputedTiming().endTime));
  await Promise.all(ends.filter((one) => one.playState === "running").map((one) => one.finished.catch(() => {})));
  await new Promise(requestAnimationFrame);
}"""


def uploads(base: Path) -> Path:
    """One upload folder for all pages of a test session: Gradio reads its place from the environment at any time."""
    from workbench.app import prepare_gradio

    folder = base / "uploads"
    folder.mkdir(exist_ok=True)
    prepare_gradio(folder)
    return folder


def executable(names: Sequence[str] = BROWSERS) -> str | None:
    """An installed browser, or None for the one that Playwright brings; where that is missing too, its launch fails."""
    found = next(filter(None, map(shutil.which, names)), None)
    return found or next((path for path in MAC_BROWSERS if Path(path).exists()), None)


def artifacts(base: Path) -> Path:
    """Where screenshots go: WORKBENCH_ARTIFACTS, else the test session's folder."""
    folder = Path(os.environ.get("WORKBENCH_ARTIFACTS") or base / "artifacts")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Person:
    """One browser tab on the chat, in a browser context of its own. Collects what must not happen.

    at: the page's address after the server's; the default is a new conversation, whatever was shown last.
    """

    def __init__(self, browser: Any, url: str, at: str = "/?c=new", **context: Any) -> None:
        self._context = browser.new_context(**{"viewport": {"width": 1280, "height": 820}, **context})
        self.page = self._context.new_page()
        self.page.set_default_timeout(30_000)
        self.complaints: list[str] = []
        self.url = url
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"page error: {error}"))
        self.page.on("request", self._request)
        self.page.goto(url + at)

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(f"console: {message.text}")

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.complaints.append(f"outside request: {request.url}")

    def close(self) -> None:
        self._context.close()
        assert not self.complaints, self.complaints

    def leave(self) -> None:
        """Close the tab in the middle of whatever it does."""
        self._context.close()

    # -- doing

    def arrive(self) -> Person:
        self.page.locator("#composer textarea").wait_for()
        return self

    def drop(self, *files: Path, onto: str = "body") -> None:
        """Let files fall onto a place of the window, as the desktop does."""
        transfer = self._transfer(files)
        for event in ("dragenter", "dragover", "drop"):
            self.page.dispatch_event(onto, event, {"dataTransfer": transfer})
        self._uploaded(len(files))

    def paste(self, *files: Path) -> None:
        """Paste files while nothing in particular has the focus."""
        self.page.evaluate(
            "data => document.body.dispatchEvent(new ClipboardEvent('paste',"
            " {clipboardData: data, bubbles: true, cancelable: true}))",
            self._transfer(files),
        )
        self._uploaded(len(files))

    def _transfer(self, files: tuple[Path, ...]) -> Any:
        kinds = {".png": "image/png", ".jpg": "image/jpeg", ".mp4": "video/mp4", ".wav": "audio/wav"}
        kinds |= {".webm": "video/webm", ".gif": "image/gif"}
        content = [[f.name, kinds[f.suffix], base64.b64encode(f.read_bytes()).decode()] for f in files]
        return self.page.evaluate_handle(
            """files => {
                const transfer = new DataTransfer();
                for (const [name, type, data] of files)
                    transfer.items.add(new File([Uint8Array.from(atob(data), c => c.charCodeAt(0))], name, {type}));
                return transfer;
            }""",
            content,
        )

    def _uploaded(self, count: int) -> None:
        self.page.wait_for_function(
            "n => document.querySelectorAll('#composer .thumbnail-item').length >= n", arg=count
        )

    def send(self, text: str) -> None:
        self.page.fill("#composer textarea", text)
        self.page.press("#composer textarea", "Enter")

    def ask(self, text: str) -> str:
        """Send, wait until the answer is whole, give its text."""
        count = self.notes.count()
        self.send(text)
        self.finished(count + 1)
        return self.answer

    def set(self, label: str, value: str) -> None:
        """Fill a field of the side bar, opening it first where it is closed."""
        if "open" not in (self.page.locator("#settings").get_attribute("class") or "").split():
            self.page.locator("#settings .toggle-button").click()
        self.page.get_by_label(label, exact=True).fill(value)

    def button(self, name: str) -> None:
        """Click a message's button; they show when the mouse is near, so the click does not wait for that."""
        self.page.locator(f'#chat button[aria-label="{name}"]').last.click(force=True)

    def stop(self) -> None:
        self.page.locator("#composer .stop-button").click()

    # -- seeing

    @property
    def notes(self) -> Any:
        """The quiet line or the error under each answer."""
        return self.page.locator("#chat .note-note, #chat .note-error")

    @property
    def answers(self) -> Any:
        return self.page.locator('#chat [data-testid="bot"]:not(:has(.note))')

    @property
    def asked(self) -> Any:
        return self.page.locator('#chat [data-testid="user"]')

    @property
    def answer(self) -> str:
        return str(self.answers.last.inner_text())

    def finished(self, count: int = 1) -> None:
        """`count` answers are whole and the composer takes the next message."""
        self.notes.nth(count - 1).wait_for()
        self.page.locator("#composer .submit-button").wait_for()

    def at_rest(self) -> None:
        """What was changed is drawn, and what slides or fades has come to its end."""
        self.page.evaluate(AT_REST)

    def shoot(self, path: Path) -> Path:
        self.page.screenshot(path=path)
        return path
