"""Media: bytes in, numpy out. Runs in the media pool; never touches MLX, never keeps state.

    Part ── fetch ──> bytes ── sniff ──> what it really is ── image | video | audio ──> Media

The bytes decide the format, never the type it was declared with. What cannot be shown to a model is a `BadMedia` that
names the part and says why, in plain words; nothing is dropped or shrunk in silence.
"""
