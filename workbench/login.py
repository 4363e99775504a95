"""The page to log in, in place of Gradio's: with a title, the first field ready, and in the reader's language.

Gradio's own route /login takes the form and sets the cookies.
"""

from __future__ import annotations

import html
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from workbench import theme
from workbench.language import current, t

IsKnown = Callable[[Request], bool]
"""Whether somebody is logged in, or need not be."""


def login_page() -> str:
    """The whole page; its style and its script stand in it, for it is shown before anything else is."""
    words = {
        "title": t("Sign in"),
        "about": t("Sign in with the username and the password that the terminal shows."),
        "name": t("Username"),
        "password": t("Password"),
        "wrong": t("The username or the password is wrong."),
        "away": t("The server cannot be reached."),
    }
    safe = {key: html.escape(text) for key, text in words.items()}
    return f"""<!doctype html>
<html lang="{current()}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{safe["title"]} · MLX Workbench</title>
<link rel="icon" href="workbench/icon-192.png">
<style>{theme.text("static/login.css")}</style>
</head>
<body>
<main>
<h1>MLX Workbench</h1>
<p>{safe["about"]}</p>
<form>
<label>{safe["name"]}
<input name="username" autocomplete="username" autocapitalize="none" spellcheck="false" required autofocus></label>
<label>{safe["password"]}
<input name="password" type="password" autocomplete="current-password" required></label>
<p role="alert" data-wrong="{safe["wrong"]}" data-away="{safe["away"]}"></p>
<button>{safe["title"]}</button>
</form>
</main>
<script>{theme.text("static/login.js")}</script>
</body>
</html>"""


class LoginPage:
    """In front of Gradio: who is not logged in gets the page to log in, at the page's address."""

    def __init__(self, app: ASGIApp, is_known: IsKnown) -> None:
        self._app = app
        self._is_known = is_known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            request = Request(scope)
            if request.url.path.removeprefix(scope.get("root_path", "")) in ("", "/") and not self._is_known(request):
                app = HTMLResponse(login_page(), headers={"Cache-Control": "no-store"})
        await app(scope, receive, send)
