"""Many rows, one question: a journal that survives a kill, and answers that do not depend on how many ran at once.

    inputs (folder, files, PDF, CSV) ─> rows ─┐
    /v1/batches: lines of a file ─────────────┴─> Runner ── ask ──> Engine     each record is in the Journal at once
                                                     └─> Journal ─> output, captions, summary

Knows nothing of HTTP or of a page.
"""
