"""What every tab is given besides the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from engine.access.visibility import Caller, caller
from engine.config import ServerConfig
from engine.errors import BadMedia
from workbench.history import History
from workbench.samples import NUM_CARDS, ExampleCard

if TYPE_CHECKING:
    import gradio as gr


@dataclass(frozen=True, slots=True)
class Shared:
    """uploads: the private folder that holds every file a page has sent, and nothing else. samples: example cards.
    server: how the port is opened, which says who may see what. history: the engine's last minutes.
    """

    uploads: Path
    samples: tuple[ExampleCard, ...] = ()
    server: ServerConfig = field(default_factory=ServerConfig)
    history: History = field(default_factory=History)

    def caller(self, page: gr.Request) -> Caller:
        """Who is at this page: the operator, a login of their own, or a visitor known by the page alone."""
        return caller(self.server, page.username or "", page.session_hash or "")

    @property
    def cards(self) -> tuple[ExampleCard, ...]:
        """The examples of an empty chat."""
        return self.samples[:NUM_CARDS]

    @property
    def operators_only(self) -> bool:
        """Whether everybody who gets to a page is the operator. Else a tab asks `caller`, page by page."""
        return caller(self.server).operator

    def uploaded(self, path: str) -> str:
        """`path` if it is a file in the upload folder.

        Gradio checks this too, once `has_launched` is set; the engine reads any path it is given, so the workbench
        does not rest on that alone. Raises BadMedia.
        """
        real = Path(path).resolve()
        if not real.is_relative_to(self.uploads.resolve()) or not real.is_file():
            raise BadMedia("That file was not uploaded through this page.", param="files")
        return str(real)
