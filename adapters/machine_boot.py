"""Which run of the machine this is: files that were written and not synced are gone when it is another one."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

_LINUX = Path("/proc/sys/kernel/random/boot_id")
_DARWIN = ("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid")


@functools.cache
def machine_boot() -> str:
    """The kernel's id of its run, the same for every process and another after each start of the machine; "" if it has none."""
    try:
        return _LINUX.read_text("ascii").strip()
    except OSError:
        pass
    try:
        return subprocess.run(_DARWIN, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
