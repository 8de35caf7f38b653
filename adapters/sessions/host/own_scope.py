"""A PTY host that is started by a systemd service gets a scope of its own, outside of the service's control group.

What ends or limits the service (its `KillMode`, its memory, the choice of the kernel when memory runs out) then does not end the agents,
whatever the unit file says. Where no manager gives a scope, the host stays in the group of the service, which `KillMode=process` spares.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

NEEDED = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")
"""Variables by which this user's manager is found."""


def scope_command(socket: str, environ: Mapping[str, str]) -> list[str]:
    """What stands before the command of a host so that it runs in a scope of its own; nothing outside of a service."""
    run = shutil.which("systemd-run", path=environ.get("PATH"))
    if not environ.get("INVOCATION_ID") or run is None:
        return []
    by_user = os.geteuid() != 0
    if by_user and not environ.get("XDG_RUNTIME_DIR"):
        return []
    name = f"relaybroker-host-{hashlib.sha256(os.fsencode(socket)).hexdigest()[:12]}-{os.getpid()}"
    manager = ["--user"] if by_user else []
    return [run, *manager, "--scope", "--quiet", "--collect", f"--unit={name}", "--"]
