"""The machine seed: one line in one file of the user's data directory, the same for every broker of this machine.

Source: spec/node-protocol.md section 1.1; invariant I2.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from relaybroker.adapters.file_lock import exclusive_lock
from relaybroker.adapters.private_files import make_private_directory, read_plain, write_private

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME = "machine-id"


class MachineSeedError(Exception):
    """The machine-id file cannot be read or used. Start-up stops; nothing was written."""


def load_or_create(directory: Path) -> str:
    """The machine seed, trimmed. A missing or blank file is filled once, however many processes start together.

    Args:
        directory: `<data_local>/agent-relay`.

    Raises:
        MachineSeedError: the file is there and cannot be read, is not UTF-8, or holds U+0000; or it cannot be created.
    """
    path = directory / FILE_NAME
    if seed := _read(path):
        return seed
    try:
        make_private_directory(directory)
        with exclusive_lock(directory / f"{FILE_NAME}.lock"):
            if seed := _read(path):
                return seed
            seed = f"node_{uuid.uuid4().hex}"
            write_private(path, f"{seed}\n".encode())
    except OSError as error:
        raise MachineSeedError(f"cannot create the machine id in {directory}: {error}") from error
    return seed


def _read(path: Path) -> str:
    """The trimmed content; "" when there is no file or it is blank. Any other failure is an error."""
    try:
        seed = read_plain(path).decode().strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise MachineSeedError(f"cannot read the machine id {path}: {error}") from error
    if "\0" in seed:
        raise MachineSeedError(f"the machine id {path} contains U+0000")
    return seed
