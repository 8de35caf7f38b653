"""What must be there before a program starts so that it can open a door: options behind its name, a server beside it.

Nothing here changes a file of the user. Where the command line already says what a door would have to say, the door is passed over.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from relaybroker.adapters.pty.process import find_command
from relaybroker.adapters.sessions import claude_inbox, codex_app_server
from relaybroker.adapters.sessions.door import PassedOver
from relaybroker.adapters.sessions.helper_process import HelperProcess
from relaybroker.adapters.sessions.rows import append
from relaybroker.adapters.unix_address import MAX_SUN_PATH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from relaybroker.adapters.pty.kin import Kin
    from relaybroker.adapters.sessions.door import Door

SERVER_START_S = 15.0
"""A program's server listens within this time (0.5 s are usual), or its door is passed over."""
_LOOK_S = 0.02


@dataclass(frozen=True)
class Command:
    """A program that is about to start, and whose it is."""

    words: tuple[str, ...]
    """Up to the program's name, wrappers included."""
    options: tuple[str, ...]
    """Behind it."""
    env: Mapping[str, str]
    cwd: str
    mark: str
    """The session."""


@dataclass(frozen=True)
class Prepared:
    """A program that may offer the door once it runs."""

    door: Door
    options: tuple[str, ...]
    """Behind its name, in the place of those of the command."""
    server: HelperProcess | None = None
    """Runs beside it, and ends with it."""


async def prepare(name: str, command: Command, folder: Path, kin: Kin) -> Prepared | PassedOver:
    """Get the door `name` ready for a program; `folder`, of this session alone, is made if it is not there. Raises OSError."""
    await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
    if name == claude_inbox.ClaudeInbox.name:
        return _claude(command, claude_inbox.notes_in(folder))
    if name == codex_app_server.CodexAppServer.name:
        return await _codex(command, codex_app_server.notes_in(folder), kin)
    return PassedOver(f"there is no door {name!r}")


def door_at(name: str, place: str) -> Door | None:
    """A door for a look-up, from where `open` said that the program writes; None if there is none of this name."""
    doors: Sequence[type[claude_inbox.ClaudeInbox | codex_app_server.CodexAppServer]]
    doors = (claude_inbox.ClaudeInbox, codex_app_server.CodexAppServer)
    return next((door(place) for door in doors if door.name == name), None)


def _claude(command: Command, notes: Path) -> Prepared | PassedOver:
    added = claude_inbox.options(command.options, notes)
    if added is None:
        return PassedOver("the command line has --settings of its own")
    return Prepared(claude_inbox.ClaudeInbox(notes), (*added, *command.options))


async def _codex(command: Command, notes: Path, kin: Kin) -> Prepared | PassedOver:
    socket = await asyncio.to_thread(_socket_beside, notes)
    arguments = codex_app_server.server_arguments(command.options, socket)
    if isinstance(arguments, PassedOver):
        return arguments
    program = find_command(command.words[0], command.env, command.cwd)
    if program is None:
        return PassedOver(f"{command.words[0]!r} is not there")
    argv = [program, *command.words[1:], *arguments]
    server = await HelperProcess.start(
        argv, env=command.env, cwd=command.cwd, kin=kin, mark=command.mark, leaves=socket
    )
    refusal = await _refusal(server, socket)
    if refusal:
        await server.end()
        return PassedOver(refusal)
    await asyncio.to_thread(append, notes, {"socket": str(socket)})
    options = codex_app_server.terminal_arguments(command.options, socket)
    return Prepared(codex_app_server.CodexAppServer(notes), tuple(options), server)


def _socket_beside(notes: Path) -> Path:
    """A path that every system takes for a socket, known to this user alone."""
    socket = notes.with_name("codex.sock")
    if len(str(socket).encode()) <= MAX_SUN_PATH:
        return socket
    folder = Path(tempfile.gettempdir()) / f"relaybroker-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o077:
        raise PermissionError(f"{folder} is not this user's alone")
    return folder / f"{uuid.uuid4().hex}.sock"


async def _refusal(server: HelperProcess, socket: Path) -> str:
    try:
        async with asyncio.timeout(SERVER_START_S):
            while not await codex_app_server.listens(socket):
                if server.exit_code is not None:
                    return f"Codex' server ended at once, with {server.exit_code}"
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        return f"Codex' server did not listen within {SERVER_START_S:.0f} s"
    return ""


def clear_away(folder: Path) -> None:
    """Remove what the doors of a session wrote, once no look-up can be asked for."""
    shutil.rmtree(folder, ignore_errors=True)
