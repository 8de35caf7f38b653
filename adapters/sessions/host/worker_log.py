"""The log of one agent's raw output; one that cannot be written ends, loudly, and the agent goes on."""

from __future__ import annotations

import logging

from relaybroker.adapters.sessions.host.rotating_file import RotatingFile

_logger = logging.getLogger(__name__)


class WorkerLog:
    """What an agent put out, in a file of bounded size; without `path`, nothing is kept."""

    def __init__(self, path: str | None, name: str) -> None:
        self._name = name
        self._file: RotatingFile | None = None
        if path is not None:
            try:
                self._file = RotatingFile(path)
            except OSError as error:
                _logger.warning("no worker log at %s: %s", path, error)

    def write(self, data: bytes) -> None:
        """Append; a failure is told once, and nothing more is written."""
        if self._file is not None:
            try:
                self._file.write(data)
            except OSError as error:
                _logger.warning("worker log of %s ends: %s", self._name, error)
                self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
