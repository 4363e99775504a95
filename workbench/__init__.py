"""The workbench: one page over one engine, on the port that also answers `/v1`.

    app       create_ui, create_app (routes first, then the page), main = vllm-mlx-chat; server and tunnel threads
    header    which model, which device, memory, running requests: read once a second from the engine's snapshot
    settings  the side bar: system prompt, sampling, frames
    session   what one browser tab holds; Answer reads one stream into a buffer that the page samples
    convert   entries of a chat <-> engine requests and displayed messages (pure)
    samples   the example cards
    theme     colours, spacing, system fonts; the page's own css and js are in static/
    tabs/     one file per tab, each with `build(engine, shared)`

`workbench` imports `engine`; never the other way round. Gradio is imported inside functions of `app` only, so that
`--help` answers at once; every other module here may import it at the top.
"""
