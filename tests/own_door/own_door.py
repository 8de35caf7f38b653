"""A door of the scripted program `tests/e2e/agents/takes_mail.py`, for tests that need a real host with a door in it.

`sitecustomize.py` beside this file makes it known to every program of ours that has this directory in its PYTHONPATH.
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path

from relaybroker.adapters.sessions.door import Absent, Accepted, Evidence, NotHandedOver, Opened, PassedOver, Unknowable

NAME = "own_door"
OFFERED_S = 5.0
LOOK_S = 0.005


class OwnDoor:
    """The program listens on a socket and writes down in its transcript what it got and what it took."""

    name = NAME
    folds = False

    def __init__(self, socket: Path, transcript: Path) -> None:
        self._socket, self._transcript = socket, transcript
        self.state = "closed"

    async def open(self):
        for _ in range(round(OFFERED_S / LOOK_S)):
            if self._socket.exists():
                self.state = "idle"
                return Opened(place=str(self._transcript))
            await asyncio.sleep(LOOK_S)
        return PassedOver("the program does not listen")

    async def hand_over(self, delivery_id, text, *, steer):
        folder = os.open(self._socket.parent, os.O_DIRECTORY)
        try:  # the folders of tests are deeper than a socket's address is long
            reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{folder}/{self._socket.name}")
        except OSError as error:
            self.state = "closed"
            raise NotHandedOver(str(error)) from error
        finally:
            os.close(folder)
        writer.write(json.dumps({"id": delivery_id, "text": text}).encode() + b"\n")
        writer.write_eof()
        await reader.read()
        writer.close()

    async def evidence(self, delivery_id):
        while (line := self._line("took", delivery_id)) is None:
            await asyncio.sleep(LOOK_S)
        return Evidence("transcript", f"{self._transcript}:{line}")

    async def look_up(self, delivery_id):
        if not self._transcript.exists():
            return Unknowable("the transcript is gone")
        if (line := self._line("took", delivery_id)) is not None:
            return Accepted(Evidence("transcript", f"{self._transcript}:{line}"))
        if self._line("got", delivery_id) is not None and _lives(self._rows()[0]["pid"]):
            return Unknowable("it got it, and has not taken it yet")
        return Absent()

    async def close(self):
        self.state = "closed"

    def _line(self, what, delivery_id):
        numbers = (number for number, row in enumerate(self._rows(), 1) if row.get(what) == delivery_id)
        return next(numbers, None)

    def _rows(self):
        text = self._transcript.read_text() if self._transcript.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


class OwnKind:
    """Every program is told where to listen and what to write; one that does not care offers no door."""

    async def prepare(self, launch):
        socket, transcript = _places(Path(launch.cwd), launch.session_id)
        env = launch.env | {"OWN_DOOR_SOCKET": str(socket), "OWN_DOOR_TRANSCRIPT": str(transcript)}
        return replace(launch, env=env), OwnDoor(socket, transcript)

    def at(self, place):
        return OwnDoor(Path(place).with_suffix(".sock"), Path(place))


def _places(folder: Path, session_id: str) -> tuple[Path, Path]:
    return folder / f"{session_id}.sock", folder / f"{session_id}.mail"


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except OSError:
        return False


def register() -> None:
    """Make the door known to this process."""
    from relaybroker.adapters.sessions.known import KINDS

    KINDS[NAME] = OwnKind()


def directory() -> str:
    """What goes into the PYTHONPATH of a program that is to know the door."""
    return os.fspath(Path(__file__).parent)
