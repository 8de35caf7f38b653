"""Where the engine posts to: public addresses by `https`, and by either scheme the networks that the operator of the machine named.

Whoever holds a workspace key chooses the URL, and anybody on this machine can make a workspace. So nothing of this machine or of its
networks is reached unless `RELAYBROKER_HOOK_NETWORKS` says so. The address that is connected to is the one that was checked: a name is
looked up once for each attempt.

Source: spec/engine-contract.md section 2.13.
"""

from __future__ import annotations

import ipaddress
import os
from typing import NamedTuple
from urllib.parse import urlsplit

from relaybroker.engine.errors import EngineError

NETWORKS = "RELAYBROKER_HOOK_NETWORKS"
URL_MAX = 2048
"""Characters of a URL that is posted to."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Target(NamedTuple):
    """Where a URL leads: `path` with its query, `host` as it is named, `authority` as the Host header says it."""

    is_secure: bool
    host: str
    port: int
    path: str
    authority: str


def networks_of_environment() -> tuple[Network, ...]:
    """What `RELAYBROKER_HOOK_NETWORKS` lists, addresses or networks with commas between them. Raises ValueError for anything else."""
    words = [word.strip() for word in os.environ.get(NETWORKS, "").split(",") if word.strip()]
    try:
        return tuple(ipaddress.ip_network(word, strict=False) for word in words)
    except ValueError as error:
        raise ValueError(f"{NETWORKS}: {error}") from error


def target_of(url: str) -> Target:
    """The parts of a URL. Raises EngineError 400 `unsafe_url` for what is no plain http or https URL."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise _unsafe("it is no URL") from error
    if not (url.isascii() and url.isprintable() and " " not in url and len(url) <= URL_MAX):
        raise _unsafe(f"it may have {URL_MAX} visible ASCII characters")
    if parts.scheme not in ("http", "https") or not host:
        raise _unsafe("it must begin with https:// or http:// and name a host")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise _unsafe("it may have no user, password or fragment")
    is_secure = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(is_secure, host, port or (443 if is_secure else 80), path, parts.netloc)


def require_allowed_url(url: str, networks: tuple[Network, ...]) -> None:
    """Raises EngineError 400 `unsafe_url` for a URL of which it is known without a look-up that nothing may be posted to it."""
    target = target_of(url)
    try:
        address = ipaddress.ip_address(target.host)
    except ValueError:
        if not target.is_secure and not networks:
            raise _unsafe("only https reaches public addresses") from None
        return
    if not is_allowed(address, target, networks):
        raise _unsafe(f"its address is not public, or not reached by https (see {NETWORKS})")


def is_allowed(address: Address, target: Target, networks: tuple[Network, ...]) -> bool:
    """Whether this address may be connected to for this target."""
    plain = _unwrapped(address)
    if any(plain in network for network in networks if network.version == plain.version):
        return True
    return target.is_secure and plain.is_global and not (plain.is_multicast or plain.is_reserved)


def _unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, if it does: mapped, 6to4, Teredo or NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else address)


_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def _unsafe(why: str) -> EngineError:
    return EngineError(400, "unsafe_url", f"Nothing is posted to this URL: {why}")
