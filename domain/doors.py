"""Doors: the ways by which a delivery enters an agent's program. Which there are is the session host's business; what follows is ours.

A program may offer a door of its own beside its terminal: an inbox, a server. The host chooses one when the program starts, which is an
event; `""` stands for the terminal, behind which there is no other.

Source: design/architecture.md section 5; ADR-0090.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from relaybroker.domain.errors import InvalidRequest, Refusal

TERMINAL = "pty_paste"
"""Typed into the terminal: what every program takes, the last resort."""
MAX_POINTER = 512
"""Characters of where evidence is to be seen."""
MAX_PLACE = 1024
"""Characters of where a program writes down what it was handed."""
MAX_DOORS = 8
"""Doors that one agent may ask for."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


def check_doors(names: Sequence[str]) -> None:
    """Raise InvalidRequest unless these can be doors, in order of preference; which of them there are, the host knows."""
    wrong = [name for name in names if not _NAME.fullmatch(name)]
    if wrong:
        raise InvalidRequest(Refusal.INVALID, "invalid_door", f"'{wrong[0][:40]}' is no name of a door", field="doors")
    if len(names) > MAX_DOORS or len(set(names)) < len(names):
        raise InvalidRequest(Refusal.INVALID, "invalid_door", f"at most {MAX_DOORS} doors, each once", field="doors")
