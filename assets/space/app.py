"""A Space of this workbench. Its platform runs this file; `engine`, `workbench` and `assets` lie beside it."""

import os

from workbench.app import main

raise SystemExit(
    main(
        [
            "--model", os.environ.get("MODEL", "demo"),
            "--host", os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0"),
            "--port", os.environ.get("GRADIO_SERVER_PORT", "7860"),
        ]
    )
)
