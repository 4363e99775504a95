"""What a browser asks for to show the page as an app: the manifest, its icons and the service worker.

All addresses in the manifest are relative to it, so they hold behind any --root-path. https://www.w3.org/TR/appmanifest/
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import cache
from typing import Literal

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from engine.assets import asset
from engine.types import Json
from workbench import theme

IconName = Literal["icon", "maskable"]
NAME = "MLX Workbench"
WORKER = "static/worker.js"
SIZES_PX: Mapping[IconName, tuple[int, ...]] = {"icon": (192, 512), "maskable": (180, 192, 512)}
"""Of each icon; 180 is what iOS puts on its home screen (theme.ICON), and not in the manifest."""

_CORNERS = ((60, 60), (452, 60), (60, 452), (452, 452))
"""Points of the icon's own ground, beside what is drawn on it."""


def manifest() -> Json:
    return {
        "name": NAME,
        "short_name": "Workbench",
        "description": "Chat with a model about pictures and clips, on your own machine.",
        "id": "./",
        "start_url": "./",
        "scope": "./",
        "display": "standalone",
        "background_color": "#fbfbfd",
        "theme_color": "#fbfbfd",
        "icons": [
            {"src": f"workbench/{name}-{size}.png", "sizes": f"{size}x{size}", "type": "image/png", "purpose": purpose}
            for name, purpose in (("icon", "any"), ("maskable", "maskable"))
            for size in (192, 512)
        ],
    }


@cache
def icon(name: IconName, size_px: int) -> bytes:
    """The icon as a PNG. "maskable": its ground fills the square, for systems that cut their own shape out of it."""
    from PIL import Image

    with Image.open(asset("icon.png")) as file:
        image = file.convert("RGBA")
    if name == "maskable":
        ground = Image.new("RGBA", (2, 2))
        for number, point in enumerate(_CORNERS):
            ground.putpixel((number % 2, number // 2), image.getpixel(point))  # type: ignore[arg-type]
        image = Image.alpha_composite(ground.resize(image.size, Image.Resampling.BILINEAR), image)
    out = io.BytesIO()
    image.resize((size_px, size_px), Image.Resampling.LANCZOS).save(out, "PNG")
    return out.getvalue()


def install_routes() -> APIRouter:
    """/manifest.json, which Gradio's page names, and below /workbench the icons and the service worker."""
    router = APIRouter(include_in_schema=False)

    @router.get("/manifest.json")
    async def manifest_json() -> Response:
        return JSONResponse(manifest(), media_type="application/manifest+json")

    @router.get("/workbench/worker.js")
    async def worker() -> Response:
        """It may answer for the whole page, and a browser asks for it anew each time."""
        headers = {"Service-Worker-Allowed": "/", "Cache-Control": "no-cache"}
        return Response(theme.text(WORKER), media_type="text/javascript", headers=headers)

    for name, sizes_px in SIZES_PX.items():
        for size_px in sizes_px:
            router.add_api_route(f"/workbench/{name}-{size_px}.png", _icon_route(name, size_px))
    return router


def _icon_route(name: IconName, size_px: int) -> Callable[[], Response]:
    def png() -> Response:
        return Response(icon(name, size_px), media_type="image/png", headers={"Cache-Control": "max-age=86400"})

    return png
