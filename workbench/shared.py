"""What every tab is given besides the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import BadMedia
from workbench.history import History
from workbench.samples import Sample


@dataclass(frozen=True, slots=True)
class Shared:
    """uploads: the private folder that holds every file a page has sent, and nothing else. samples: example cards.

    operators_only: whoever sees the page may see what others sent. history: the engine's last minutes.
    """

    uploads: Path
    samples: tuple[Sample, ...] = ()
    operators_only: bool = False
    history: History = field(default_factory=History)

    def uploaded(self, path: str) -> str:
        """`path` if it is a file in the upload folder.

        Gradio checks this too, once `has_launched` is set; the engine reads any path it is given, so the workbench
        does not rest on that alone. Raises BadMedia.
        """
        real = Path(path).resolve()
        if not real.is_relative_to(self.uploads.resolve()) or not real.is_file():
            raise BadMedia("That file was not uploaded through this page.", param="files")
        return str(real)
