"""NodeConnection: the life of the one link between this node and its engine (stream `node:<node_id>`).

Rules:

* The link is `online` only once the engine has accepted `node.register` on this very socket. An open socket proves nothing.
* There is one dial at a time, numbered. Reports from the socket of an earlier dial change nothing.
* Every failure leads to `backing_off` with a reason and a deadline. The delay is drawn from [1 s, min(30 s, 2 x base)]; base doubles
  with every sleep and restarts at 1 s after a proven session.
* A rejected token is replaced at most 5 times between two proven sessions and 10 times an hour. A token pinned by the operator is never
  replaced.
* `refused` ends this incarnation: the engine rejected the credential, and the node can do nothing about it by itself. A new incarnation
  begins when the broker starts, or 300 s later: it dials with the same token and, if that is still rejected, asks for one new token if
  the hour's budget allows. A person's request to enrol begins one at once and resets the budget.
* `draining` sends what is owed (agent.deregister, acks, results, node.deregister) within its limit. Then the link is `closed` until a
  broker begins the next incarnation. The link itself never ends: no state is terminal.

Source: spec/node-protocol.md sections 1.8, 2.8, 2.10, 2.12.
"""

from __future__ import annotations

from enum import StrEnum

from relaybroker.domain.state_machine import Table

BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 30.0
SUPERSEDED_WAIT_S = 30.0
REFUSED_PROBE_S = 300.0
REGISTER_REPLY_S = 10.0
HEARTBEAT_S = 12.0
HEARTBEAT_GAP_S = 1.0
"""Least time between two heartbeats, however often the load changes."""
INVENTORY_S = 60.0
INVENTORY_WAIT_S = 30.0
"""How long a changed inventory waits for running invocations: a sync makes the engine start again what it does not list."""
SYNC_RETRY_FIRST_S = 2.0
SYNC_RETRY_MAX_S = 60.0
MINT_S = 60.0
"""For an enrolment, which nothing waits for: one that was given up too soon is done by the engine all the same."""
MINT_RETRY_FIRST_S = 0.2
MAX_REMINTS = 5
"""Tokens replaced between two proven sessions."""
MAX_REMINTS_PER_HOUR = 10
"""Over proven sessions too: two brokers that take each other's token stop."""


class LinkState(StrEnum):
    """States; the first one is initial."""

    OFFLINE = "offline"
    MINTING = "minting"
    CONNECTING = "connecting"
    REGISTERING = "registering"
    ONLINE = "online"
    BACKING_OFF = "backing_off"
    DRAINING = "draining"
    CLOSED = "closed"
    REFUSED = "refused"


class Trigger(StrEnum):
    """What moves it."""

    BEGIN = "begin"
    MINT = "mint"
    CONNECT = "connect"
    OPEN = "open"
    ACCEPT = "accept"
    BACK_OFF = "back_off"
    DRAIN = "drain"
    CLOSE = "close"
    REFUSE = "refuse"


_UNPROVEN = (LinkState.MINTING, LinkState.CONNECTING, LinkState.REGISTERING)

TABLE = Table(
    "link",
    states=LinkState,
    terminal=(),
    triggers=Trigger,
    edges=(
        (Trigger.BEGIN, (LinkState.OFFLINE, LinkState.CLOSED, LinkState.REFUSED), LinkState.OFFLINE),
        (Trigger.MINT, (LinkState.OFFLINE, LinkState.BACKING_OFF), LinkState.MINTING),
        (Trigger.CONNECT, (LinkState.OFFLINE, LinkState.MINTING, LinkState.BACKING_OFF), LinkState.CONNECTING),
        (Trigger.OPEN, (LinkState.CONNECTING,), LinkState.REGISTERING),
        (Trigger.ACCEPT, (LinkState.REGISTERING,), LinkState.ONLINE),
        (Trigger.BACK_OFF, (*_UNPROVEN, LinkState.ONLINE), LinkState.BACKING_OFF),
        (Trigger.DRAIN, (LinkState.ONLINE,), LinkState.DRAINING),
        (
            Trigger.CLOSE,
            (LinkState.OFFLINE, *_UNPROVEN, LinkState.ONLINE, LinkState.BACKING_OFF, LinkState.DRAINING),
            LinkState.CLOSED,
        ),
        (Trigger.REFUSE, (*_UNPROVEN, LinkState.ONLINE, LinkState.BACKING_OFF), LinkState.REFUSED),
    ),
    rules=__doc__,
)
