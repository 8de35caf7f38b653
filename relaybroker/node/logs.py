"""Where diagnostics go: a daily file that only its owner can read, kept for fourteen days. Never standard output.

A parent that does not read our standard error must not be able to block the broker, so only the last words of a failed start
go there, unless the operator asks for more.

Source: spec/local-api.md sections 0.2, 4.5 and 4.6.
"""

from __future__ import annotations

import logging
import sys
from io import TextIOWrapper
from logging.handlers import TimedRotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING

from relaybroker.adapters.log_lines import LogLines
from relaybroker.adapters.private_files import make_private_directory, open_log

if TYPE_CHECKING:
    from collections.abc import Mapping

DAYS_KEPT = 14
_CHATTY = ("transitions", "aiohttp.access")
"""Libraries that log every step; the journal says more."""
_OFF = frozenset(("off", "none", "0", "false", "no"))
_STDERR = frozenset(("stderr", "print"))


class _PrivateDailyFile(TimedRotatingFileHandler):
    """A log file of mode 0600 that is renamed to `<name>.YYYY-MM-DD` at midnight."""

    def _open(self) -> TextIOWrapper:
        return TextIOWrapper(open_log(Path(self.baseFilename)), encoding="utf-8")


def directory(environ: Mapping[str, str]) -> Path:
    """Where log files are."""
    home = Path(environ.get("HOME", "/nonexistent"))
    if sys.platform == "darwin":
        return home / "Library" / "Logs" / "agentworkforce" / "relay"
    base = environ.get("XDG_STATE_HOME", "").strip()
    return (Path(base) if base else home / ".local" / "state") / "agentworkforce" / "relay" / "logs"


def configure(log_id: str, environ: Mapping[str, str], *, level: str = "info", to: str = "") -> logging.Handler:
    """Send everything that is logged to its place.

    Args:
        log_id: name of the file.
        environ: says where files of this user are.
        level: the least level that is kept.
        to: `stderr`, `off`; else a daily file.

    Raises:
        OSError: the log file cannot be made.
    """
    chosen = to.lower()
    handler: logging.Handler
    if chosen in _OFF:
        handler = logging.NullHandler()
    elif chosen in _STDERR:
        handler = logging.StreamHandler(sys.stderr)
    else:
        place = directory(environ)
        make_private_directory(place)
        handler = _PrivateDailyFile(place / f"{log_id}.log", when="midnight", backupCount=DAYS_KEPT, encoding="utf-8")
    handler.setFormatter(LogLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return handler
