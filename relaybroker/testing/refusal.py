"""What the brokers of tests say when a request is refused."""

from __future__ import annotations


class Refused(Exception):  # noqa: N818 - says what happened
    """The broker or the engine refused a request; `code` is stable (docs/reasons.md, docs/openapi.json)."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{message} [{code}, {status}]")
        self.status = status
        self.code = code
