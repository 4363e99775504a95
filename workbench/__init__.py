"""The page: one Gradio app over one engine, on the port that also answers `/v1`. A folder per tab.

`workbench` imports `engine`; never the other way round. Gradio is imported inside functions of `app` only, so that
`--help` answers at once; every other module here may import it at the top.

Where each thing is: assets/docs/how-it-works.md.
"""
