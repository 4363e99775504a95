"""What all tabs share besides the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from engine.access.visibility import Caller, caller, on_page
from engine.config import ServerConfig
from engine.errors import BadMedia
from workbench.history import History
from workbench.language import t
from workbench.samples import NUM_CARDS, ExampleCard

if TYPE_CHECKING:
    import gradio as gr


@dataclass(frozen=True, slots=True)
class Shared:
    """uploads: the private folder of uploaded files, which holds nothing else. samples: example cards. server: how the
    port is opened, which decides who may see what. history: the engine's last minutes.
    """

    uploads: Path
    samples: tuple[ExampleCard, ...] = ()
    server: ServerConfig = field(default_factory=ServerConfig)
    history: History = field(default_factory=History)

    def caller(self, page: gr.Request, visitor: str = "") -> Caller:
        """The caller behind a page: the operator, a login, or a visitor known by the page, and by `visitor`, what the
        browser's tab calls itself (engine.access.visibility.on_page)."""
        return on_page(self.server, caller(self.server, page.username or "", page.session_hash or ""), visitor)

    @property
    def cards(self) -> tuple[ExampleCard, ...]:
        """The examples of an empty chat."""
        return self.samples[:NUM_CARDS]

    def uploaded(self, path: str) -> str:
        """The real path of a file in the upload folder. Raises BadMedia for any other path.

        Gradio checks this too, once `has_launched` is set; but the engine reads any path, so it is checked here again.
        """
        real = Path(path).resolve()
        if not real.is_relative_to(self.uploads.resolve()) or not real.is_file():
            raise BadMedia(t("That file was not uploaded through this page."), param="files")
        return str(real)
