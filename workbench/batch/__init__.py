"""The Batch tab: one prompt over many files, by the runner of vllm-mlx run (engine.batch_run).

    the page ── files, form ──> routes ──> BatchDesk ── TabRun ──> BatchRun ──> Engine
        ^                                                  └──> RunTable: what the page is shown of its rows
        └────────── the page's events: how each run stands, once a second

A run belongs to the server: it goes on while no page looks.
"""
