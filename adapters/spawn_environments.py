"""Variables that callers want in the environment of an agent, until its program has them. They may be keys.

Requests, events and effects have the names and a reference; the values are here, in memory and in one private file per spawn in the run
directory, so that a broker that is killed before the program was started can still start it.

Source: ADR-0036; spec/local-api.md sections 5.2 and 11.1; invariant I7.
"""

from __future__ import annotations

import logging
import re
import secrets
import threading
from typing import TYPE_CHECKING

import msgspec

from relaybroker.adapters.private_files import make_private_directory, read_private, remove_private, write_private
from relaybroker.domain.decoding import NOT_READABLE

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

_log = logging.getLogger(__name__)

_REFERENCE = re.compile(r"env_[0-9a-f]{16}")
_SUFFIX = ".json"


class SpawnEnvironments:
    """Values by reference. Thread-safe; `keep` and `forget` write files and may be called from a thread.

    Args:
        directory: `<run>/environments`, made with mode 0700 when the first one comes.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._kept: dict[str, dict[str, str]] = {}
        if directory.exists():
            make_private_directory(directory)
            for path in directory.glob(f"env_*{_SUFFIX}"):
                self._load(path)

    def __repr__(self) -> str:
        return f"SpawnEnvironments({sorted(self._kept)})"

    def keep(self, values: Mapping[str, str]) -> str:
        """Keep values durably; their reference. Raises OSError when they cannot be written."""
        reference = f"env_{secrets.token_hex(8)}"
        with self._lock:
            make_private_directory(self._directory)
            write_private(self._path(reference), msgspec.json.encode(values))
            self._kept[reference] = dict(values)
        return reference

    def values(self, reference: str) -> dict[str, str] | None:
        """The values; None when they are not here."""
        with self._lock:
            return self._kept.get(reference)

    def forget(self, reference: str) -> None:
        """Drop values from memory and disk; what is not there is fine."""
        with self._lock:
            if self._kept.pop(reference, None) is not None:
                remove_private(self._path(reference))

    def forget_except(self, references: Collection[str]) -> None:
        """Drop every value that is not referred to."""
        for reference in self._kept.keys() - set(references):
            self.forget(reference)

    def _load(self, path: Path) -> None:
        reference = path.name.removesuffix(_SUFFIX)
        if not _REFERENCE.fullmatch(reference):
            return
        try:
            self._kept[reference] = msgspec.json.decode(read_private(path), type=dict[str, str])
        except NOT_READABLE:
            _log.warning("%s holds no variables; it is left as it is and not used", path)

    def _path(self, reference: str) -> Path:
        return self._directory / f"{reference}{_SUFFIX}"
