"""GET /docs: Swagger UI over our own document, with its scripts from here, so that it works without internet."""

from __future__ import annotations

from pathlib import Path

import fastapi_swagger
from fastapi import FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles

ASSETS = "/docs/assets"


def add_documentation(app: FastAPI) -> None:
    """The page, and the files of Swagger UI as the package brings them."""
    files = Path(fastapi_swagger.__file__).parent / "resources"
    app.mount(ASSETS, StaticFiles(directory=files), name="swagger-ui")

    @app.get("/docs", include_in_schema=False)
    async def documentation(http: Request) -> Response:
        root_path = http.scope.get("root_path", "").rstrip("/")
        return get_swagger_ui_html(
            openapi_url=f"{root_path}{app.openapi_url}",
            title=app.title,
            swagger_js_url=f"{root_path}{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{root_path}{ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{root_path}{ASSETS}/favicon-32x32.png",
        )
