"""One file per tab, each with `build(engine, shared)`; a tab is listed in `workbench.app` once it works."""
