"""What the end of one machine means for the others: one visible table, read by the rules and by the documentation.

| when | what | while it is | then |
|---|---|---|---|
| a worker exits or is stopped | its deliveries that the engine keeps | offered, held, queued | returned: the engine offers them again |
| | its other deliveries: local, in custody, without sequence number, too old | offered, held, queued | dead letter |
| | its deliveries, if part of the text stands in the composer, or it was fetching them | held, queued | in doubt |
| | its deliveries | injecting | the host handed them back before it reported the exit; any left is in doubt |
| a PTY host dies | its workers | not ended | lost |
| | their deliveries | injecting | in doubt: the configured policy settles them |
| a worker ends | its registration | live, registered | deregistering |
| the link goes down | registrations | registering | they go on over HTTP; those of a sidecar fail: `engine_unavailable` |
| the broker comes back | invocations | running | done: at most one execution |

Source: design/architecture.md section 3.1; spec/node-protocol.md sections 4.7, 4.12, 5.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from relaybroker.domain.delivery import State


class Fate(StrEnum):
    """What becomes of a delivery whose worker ended."""

    RETURN = "return"
    """Dropped without counting for the cursor: the engine offers it again."""
    DEAD_LETTER = "dead_letter"
    IN_DOUBT = "in_doubt"
    """The in-doubt policy decides."""


_WAITING = (State.OFFERED, State.HELD, State.QUEUED)

WORKER_ENDED: Mapping[tuple[str, bool], Fate] = MappingProxyType(
    {
        **{(str(state), True): Fate.RETURN for state in _WAITING},
        **{(str(state), False): Fate.DEAD_LETTER for state in _WAITING},
        (str(State.INJECTING), True): Fate.IN_DOUBT,
        (str(State.INJECTING), False): Fate.IN_DOUBT,
    }
)
"""(delivery state, whether the engine certainly keeps it) -> fate. Other states need nothing: what is typed is typed."""


def policy_fate(policy: str, *, returnable: bool) -> tuple[Fate, bool]:
    """How the in-doubt policy settles a delivery: its fate, and whether it counts for the cursor.

    `ask` keeps it for a person; `at_most_once` ends it; `at_least_once` returns it to the engine, to be typed again with a mark
    (what the engine does not keep any more, or never did, is kept for a person).
    """
    if policy == "at_least_once" and returnable:
        return Fate.RETURN, False
    if policy == "at_most_once":
        return Fate.RETURN, True
    return Fate.DEAD_LETTER, True
