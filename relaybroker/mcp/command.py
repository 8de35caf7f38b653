"""The `relaybroker` command for agents: whatever their PATH is, it is there, and it is this version.

Source: spec/conversation.md sections 3 and 4.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from relaybroker.adapters.own_programs import own_program
from relaybroker.adapters.private_files import make_private_directory

if TYPE_CHECKING:
    from pathlib import Path


def write_command(directory: Path) -> None:
    """Put a `relaybroker` into this directory, which comes last in an agent's PATH.

    Raises:
        OSError: it cannot be written.
    """
    make_private_directory(directory)
    script = directory / "relaybroker"
    written = directory / "relaybroker.new"
    written.write_text(f'#!/bin/sh\nexec {shlex.join(own_program("relaybroker"))} "$@"\n', encoding="utf-8")
    written.chmod(0o700)
    written.replace(script)
