"""/docs in a real browser: it shows the API under the same policy as every other page."""

from __future__ import annotations

from typing import Any


def test_the_documentation_works_under_the_policy(browser: Any, demo_server: Any) -> None:
    page = browser.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{demo_server.url}/docs")
    operation = page.locator(".opblock", has_text="/v1/chat/completions").first
    operation.wait_for(timeout=60_000)
    operation.click()
    page.locator(".opblock-body .parameters, .opblock-body .opblock-section").first.wait_for(timeout=60_000)
    page.close()
    assert said == [], "the policy refuses something that the page needs"
    assert all(url.startswith((f"{demo_server.url}/", "data:")) for url in asked) and len(asked) > 3
