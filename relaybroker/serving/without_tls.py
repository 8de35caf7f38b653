"""Makes aiohttp small for a process that speaks no TLS.

As it is imported, aiohttp reads every certificate authority of the machine, twice: 45 ms of CPU, a tenth of a broker's start.
"""

from __future__ import annotations

import importlib
import ssl
import sys


def import_aiohttp_without_tls() -> None:
    """Import aiohttp as in a Python without `ssl`, which everything else keeps: it serves and asks by plain HTTP, and refuses `https`."""
    sys.modules["ssl"] = None  # type: ignore[assignment]  # None makes `import ssl` fail
    try:
        importlib.import_module("aiohttp")
    finally:
        sys.modules["ssl"] = ssl
