"""From where a request may come: programs on this machine and its network, never a web page of somebody else.

A browser sends every page's requests to this machine; some of them, plain form posts, without asking first. It says so by `Origin`, and
a name that was rebound to this machine by `Host`.

Source: spec/engine-contract.md section 1.6.
"""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

from aiohttp import web

from relaybroker.engine.errors import EngineError

HOSTS = "RELAYBROKER_ALLOWED_HOSTS"
ORIGINS = "RELAYBROKER_ALLOWED_ORIGINS"


class OriginCheck:
    """Refuses what comes from the wrong place.

    Args:
        hosts: further names that a Host header may have.
        origins: further origins that a browser may have.
    """

    def __init__(self, hosts: frozenset[str], origins: frozenset[str]) -> None:
        self._hosts = hosts
        self._origins = origins - {"null"}

    @classmethod
    def of_environment(cls, host: str) -> OriginCheck:
        """As the operator has configured it; `host` is the address that the engine was told to bind."""
        return cls(_listed(HOSTS) | {host.lower()}, _listed(ORIGINS))

    def require(self, request: web.Request) -> None:
        """Raise EngineError 403 `forbidden_host` or `forbidden_origin`."""
        given = request.headers.get("Host", "")
        host = _name(given)
        if not (host == "localhost" or _is_address(host) or host in self._hosts):
            raise EngineError(403, "forbidden_host", f"This Host is not allowed (see {HOSTS})")
        origin = request.headers.get("Origin")
        if origin is not None and origin.lower() not in self._origins | {f"{request.scheme}://{given}".lower()}:
            raise EngineError(403, "forbidden_origin", f"This Origin is not allowed (see {ORIGINS})")


def _listed(variable: str) -> frozenset[str]:
    return frozenset(word.strip().lower() for word in os.environ.get(variable, "").split(",") if word.strip())


def _name(host: str) -> str:
    try:
        parts = urlsplit(f"//{host}")
        parts.port  # noqa: B018 - raises ValueError where the port is no number
    except ValueError:
        return ""
    return (parts.hostname or "") if parts.netloc == host and "@" not in host else ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
