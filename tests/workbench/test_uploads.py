"""The page's own upload route ends a file that stalls, and takes no more than all uploads may have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from tests.engine.api.test_uploads import LIMITS, Upload


def test_the_page_ends_a_file_that_stalls(page_app: Callable[..., Any], serve: Callable[..., Any]) -> None:
    with serve(page_app(**LIMITS)) as base:
        upload = Upload(base, "/gradio_api/upload", 5000, "multipart/form-data; boundary=b")
        upload.send(b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nxxx')
        assert upload.answer()[0] == 408
        upload.close()
        file = {"files": ("a.txt", b"hello")}
        assert httpx.post(f"{base}/gradio_api/upload", files=file, timeout=30).status_code == 200
        many = [("files", (f"{n}.txt", b"x" * 400_000)) for n in range(3)]
        refused = httpx.post(f"{base}/gradio_api/upload", files=many, timeout=30)
        assert refused.status_code == 429 and refused.json()["error"]["code"] == "uploads_full"
