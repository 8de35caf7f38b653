"""A door of the scripted program `tests/e2e/agents/takes_mail.py`, for tests that need a real host with a door in it.

`sitecustomize.py` beside this file makes it known to every program of ours that has this directory in its PYTHONPATH.
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path

from relaybroker.adapters.sessions.door import (
    Absent,
    Accepted,
    Door,
    Evidence,
    NotHandedOver,
    Opened,
    PassedOver,
    QuestionGone,
    Unknowable,
)
from relaybroker.domain.questions import Option, question

NAME = "own_door"
OFFERED_S = 5.0
LOOK_S = 0.005


class OwnDoor(Door):
    """The program listens on a socket and writes down in its transcript what it got, what it took and what it asks."""

    name = NAME
    folds = False

    def __init__(self, socket: Path, transcript: Path) -> None:
        self._socket, self._transcript = socket, transcript
        self._phase = "closed"
        self._asked = None
        self._given = set()
        self._watching = None

    @property
    def state(self):
        return "blocked" if self._asked is not None and self._phase == "idle" else self._phase

    @property
    def question(self):
        return self._asked

    async def answer(self, question_id, option_id):
        if self._asked is None or self._asked.id != question_id:
            raise QuestionGone
        self._asked = None
        self._given.add(question_id)
        self.on_change()
        await self._post({"answer": question_id, "option": option_id})

    async def _watch(self):
        while True:
            rows = self._rows()
            over = {row["answered"] for row in rows if "answered" in row} | self._given
            row = next((row for row in rows if "asks" in row and row["asks"] not in over), None)
            former, options = self._asked, [] if row is None else [Option(*one) for one in row["options"]]
            self._asked = None if row is None else question(row["asks"], "permission", [row["text"]], options)
            if self._asked != former:
                self.on_change()
            await asyncio.sleep(LOOK_S)

    async def open(self):
        for _ in range(round(OFFERED_S / LOOK_S)):
            if self._socket.exists():
                self._phase = "idle"
                self._watching = asyncio.create_task(self._watch())
                return Opened(place=str(self._transcript))
            await asyncio.sleep(LOOK_S)
        return PassedOver("the program does not listen")

    async def hand_over(self, delivery_id, text, *, steer):
        await self._post({"id": delivery_id, "text": text})

    async def _post(self, row):
        folder = os.open(self._socket.parent, os.O_DIRECTORY)
        try:  # the folders of tests are deeper than a socket's address is long
            reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{folder}/{self._socket.name}")
        except OSError as error:
            self._phase = "closed"
            raise NotHandedOver(str(error)) from error
        finally:
            os.close(folder)
        writer.write(json.dumps(row).encode() + b"\n")
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
        self._phase = "closed"
        if self._watching is not None:
            self._watching.cancel()

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
