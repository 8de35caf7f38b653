"""The one error of the engine's API: an HTTP status, a stable code and a message. Nothing is changed when it is raised."""

from __future__ import annotations


class EngineError(Exception):
    """Refuses a request; becomes `{"ok":false,"error":{"code","message"}}` (contract 1.1) or an `error` frame."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def invalid(message: str) -> EngineError:
    """400 `invalid_request` with a message specific to the route."""
    return EngineError(400, "invalid_request", message)


def not_found(code: str, message: str) -> EngineError:
    """404 with this code."""
    return EngineError(404, code, message)
