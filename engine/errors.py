"""Every exception of the project, as one tree. Nothing else defines exceptions.

    EngineError                      status  code
    ├── BadRequest                    400    invalid_value / the given code
    │   ├── ContextOverflow           400    context_length_exceeded
    │   ├── MemoryExceeded            400    memory_exceeded   (cost)
    │   └── BadMedia                  400    invalid_media
    ├── Unauthorized                  401    invalid_api_key
    ├── Forbidden                     403    operator_only / the given code
    ├── ModelNotFound                 404    model_not_found
    ├── MethodNotAllowed              405    method_not_allowed
    ├── SlowUpload                    408    slow_upload
    ├── Conflict                      409    block_in_use / the given code
    ├── TooLarge                      413    request_too_large
    ├── UnsupportedEncoding           415    unsupported_encoding
    ├── Busy                          429    queue_full / the given code   (retry_after_s)
    ├── PixelsMissing                 500    pixels_missing        (never leaves the engine)
    ├── NotShared                     500    not_shared            (never leaves the engine)
    ├── Internal                      500    internal_error
    ├── BadGateway                    502    server_failed / server_refused / server_key_refused
    ├── Unavailable                   503    model_not_ready / model_load_failed / shutting_down / restarting /
    │                                        server_unreachable
    └── TimedOut                      504    request_timeout

`message` is plain words for a person and names the field and the limit; `param` is the JSON path of the field that
is wrong, as in OpenAI's error object (https://platform.openai.com/docs/guides/error-codes).
"""

from __future__ import annotations

import copy
from typing import Any


def caused(error: EngineError, cause: BaseException) -> EngineError:
    """The error with what led to it, for where it is not raised but handed on."""
    error.__cause__ = cause
    return error


class EngineError(Exception):
    """Base of the tree. `status` is the HTTP status, `code` the machine-readable reason."""

    status = 500
    code = "internal_error"
    type = "server_error"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code

    def told(self, where: str, param: str | None = None) -> EngineError:
        """The same error of the same kind, with words before its message that say what it was about."""
        told = copy.copy(self)  # one error may be that of several requests
        told.args = (f"{where}{self.message}", *self.args[1:])
        told.message, told.param = told.args[0], param or self.param
        return told

    def to_openai(self) -> dict[str, Any]:
        """The error object that OpenAI's clients parse: {"error": {message, type, param, code}}."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class BadRequest(EngineError):
    """The request cannot be served as sent; sending it again will not help."""

    status = 400
    code = "invalid_value"
    type = "invalid_request_error"


class ContextOverflow(BadRequest):
    """Prompt plus asked-for tokens do not fit the model's context."""

    code = "context_length_exceeded"


class MemoryExceeded(BadRequest):
    """The request surely takes more memory than there is. cost: the engine.types.Preflight, where it was only
    asked what it would cost."""

    code = "memory_exceeded"
    cost: Any = None


class BadMedia(BadRequest):
    """A picture, clip or sound could not be fetched, decoded or shown to this model."""

    code = "invalid_media"


class Unauthorized(EngineError):
    status = 401
    code = "invalid_api_key"
    type = "authentication_error"


class Forbidden(EngineError):
    """Not for visitors of a server that is open to everybody."""

    status = 403
    code = "operator_only"
    type = "permission_error"


class ModelNotFound(EngineError):
    status = 404
    code = "model_not_found"
    type = "invalid_request_error"


class MethodNotAllowed(EngineError):
    """The path exists, and does not take this method."""

    status = 405
    code = "method_not_allowed"
    type = "invalid_request_error"


class Conflict(EngineError):
    """Something that is going on now stands in the way; later it may not."""

    status = 409
    code = "block_in_use"
    type = "invalid_request_error"


class SlowUpload(EngineError):
    """The body of a request came too slowly, or stopped coming."""

    status = 408
    code = "slow_upload"
    type = "invalid_request_error"


class TooLarge(EngineError):
    status = 413
    code = "request_too_large"
    type = "invalid_request_error"


class UnsupportedEncoding(EngineError):
    """The body of a request is packed in a way that is not read here."""

    status = 415
    code = "unsupported_encoding"
    type = "invalid_request_error"


class Busy(EngineError):
    """There is no room just now. `retry_after_s` is what `Retry-After` says."""

    status = 429
    code = "queue_full"
    type = "rate_limit_error"

    def __init__(self, message: str, *, retry_after_s: int = 1, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class PixelsMissing(EngineError):
    """Media that came as facts alone have to be read after all: the engine decodes them and asks again."""

    code = "pixels_missing"


class NotShared(EngineError):
    """Questions were to go on from one prompt, and theirs have nothing in common that is known: the engine asks each
    alone."""

    code = "not_shared"


class Internal(EngineError):
    """A fault of ours. The cause is in the log, not in the message."""


class BadGateway(EngineError):
    """Another server, which was to answer, did so in a way that nothing can be made of (engine.remote)."""

    status = 502
    code = "server_failed"


class Unavailable(EngineError):
    """The model is still loading, failed to load, or the engine is stopping."""

    status = 503
    code = "model_not_ready"


class TimedOut(EngineError):
    """The whole answer took longer than --timeout allows."""

    status = 504
    code = "request_timeout"


def say_bytes(num_bytes: float) -> str:
    """1536 -> "1.5 KiB", for messages."""
    for unit in ("bytes", "KiB", "MiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.4g} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.4g} GiB"
