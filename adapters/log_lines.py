"""How our programs write their log files."""

from __future__ import annotations

import logging

from relaybroker.domain.plain_text import plain


class LogLines(logging.Formatter):
    """One line for each message, whatever peers put into it; a traceback follows as it is."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return plain(super().formatMessage(record))
