"""Doors: the ways by which a delivery enters an agent's program. Which there are is the session host's business; what follows is ours.

A program may offer a door of its own beside its terminal: an inbox, a server. The host chooses one when the program starts, which is an
event; `""` stands for the terminal, behind which there is no other. A program without terminal has one door and nothing behind it.

Source: design/architecture.md section 5; ADR-0093.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from relaybroker.domain.errors import InvalidRequest, Refusal

TERMINAL = "pty_paste"
"""Typed into the terminal: what every program takes, the last resort."""
WITHOUT_TERMINAL = ("acp", "stream_json")
"""Doors on a program's standard input and output: it gets no terminal, and there is no other way in."""
TELLS_TOOLS = "acp"
"""The door that tells its program of our tools itself; to every other program its command line does."""
MAX_POINTER = 512
"""Characters of where evidence is to be seen."""
MAX_PLACE = 1024
"""Characters of where a program writes down what it was handed."""
MAX_DOORS = 8
"""Doors that one agent may ask for."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


def is_without_terminal(doors: Sequence[str]) -> bool:
    """Whether a program that is to have these doors is started without a terminal."""
    return any(name in WITHOUT_TERMINAL for name in doors)


def fault_of_doors(names: Sequence[str]) -> str:
    """Why these cannot be doors, in order of preference; "" = they can, and which of them there are, the host knows."""
    if wrong := [name for name in names if not _NAME.fullmatch(name)]:
        return f"'{wrong[0][:40]}' is no name of a door"
    if len(names) > 1 and (alone := [name for name in names if name in WITHOUT_TERMINAL]):
        return f"'{alone[0]}' is for a program without terminal and stands alone"
    is_fine = len(names) <= MAX_DOORS and len(set(names)) == len(names)
    return "" if is_fine else f"at most {MAX_DOORS} doors, each once"


def check_doors(names: Sequence[str]) -> None:
    """Raise InvalidRequest (`invalid_door`) unless these can be doors."""
    if fault := fault_of_doors(names):
        raise InvalidRequest(Refusal.INVALID, "invalid_door", fault, field="doors")
