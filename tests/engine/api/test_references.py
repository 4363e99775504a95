"""Which files an API request may name: those under --media-root, and no way around it."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.api.bodies.references import reference
from engine.config import MediaLimits
from engine.errors import BadMedia

CLOSED = MediaLimits()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """root/a.png, root/sub/b.png, a secret beside root, and links out of it."""
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "root-but-longer").mkdir()
    for file in (root / "a.png", root / "sub/b.png", tmp_path / "secret.png", tmp_path / "root-but-longer/c.png"):
        file.write_bytes(b"x")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "out").symlink_to(tmp_path)
    (root / "inner.png").symlink_to(root / "a.png")
    return root


def refused(url: str, limits: MediaLimits) -> str:
    with pytest.raises(BadMedia) as caught:
        reference("image", url, "here", limits)
    assert caught.value.param == "here" and caught.value.status == 400
    return caught.value.message


@pytest.mark.parametrize("url", ["data:image/png;base64,AA", "http://host/a.png", "HTTPS://host/a.png"])
def test_urls_are_taken_as_they_are(url: str) -> None:
    part = reference("image", url, "here", CLOSED)
    assert part.url == url and part.path is None and part.param == "here"


@pytest.mark.parametrize(
    "url", ["ftp://host/a.png", "javascript:alert(1)", "gopher://x", "concat:/etc/passwd", "s3://b/k"]
)
def test_other_schemes_are_refused(url: str) -> None:
    assert "URLs are not read" in refused(url, CLOSED)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "/etc/passwd", "a.png", "../a.png", "~/a.png", "FILE:///etc/passwd"]
)
def test_without_a_media_root_no_file_is_read(url: str) -> None:
    assert "--media-root" in refused(url, CLOSED)


def test_bare_base64_is_told_what_is_missing() -> None:
    assert "data:image/png;base64," in refused("iVBORw0KGgo" * 200, CLOSED)


def test_files_under_the_root(root: Path) -> None:
    limits = MediaLimits(media_root=root)
    for url in ("a.png", str(root / "a.png"), f"file://{root}/a.png", f"file://localhost{root}/a.png", "sub/../a.png"):
        assert reference("image", url, "here", limits).path == str((root / "a.png").resolve())
    assert reference("video", "sub/b.png", "here", limits).path == str((root / "sub/b.png").resolve())
    assert reference("image", "inner.png", "here", limits).path == str((root / "a.png").resolve())
    (root / "my cat.png").write_bytes(b"x")
    assert reference("image", f"file://{root}/my%20cat.png", "here", limits).path == str(
        (root / "my cat.png").resolve()
    )


@pytest.mark.parametrize(
    "url",
    [
        "../secret.png",
        "sub/../../secret.png",
        "/etc/passwd",
        "file:///etc/passwd",
        "link.png",
        "out/secret.png",
        "../root-but-longer/c.png",
        "../missing.png",
        "a\x00.png",
    ],
)
def test_no_way_out(root: Path, url: str) -> None:
    assert "not in the folder given with --media-root" in refused(url, MediaLimits(media_root=root))


def test_no_way_out_by_an_encoded_file_url(root: Path) -> None:
    limits = MediaLimits(media_root=root)
    assert "--media-root" in refused(f"file://{root}/%2e%2e/secret.png", limits)
    assert "other machines" in refused("file://server/share/a.png", limits)


def test_a_root_that_is_itself_a_link(root: Path, tmp_path: Path) -> None:
    alias = tmp_path / "alias"
    alias.symlink_to(root)
    assert reference("image", "a.png", "here", MediaLimits(media_root=alias)).path == str((root / "a.png").resolve())
