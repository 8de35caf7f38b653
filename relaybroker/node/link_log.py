"""What the operator's log says about the node link: every error of the engine, every end of a session, each with its cause.

And which programs ask for no permission. The journal has all of it too: this is for the person who reads the log file. No text here
holds a token: events hold none.

Source: spec/node-protocol.md sections 2.9 and 2.13; spec/local-api.md section 11.2; F043, F044, F052, F059.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from relaybroker.domain import events
from relaybroker.domain.extraction import Class, classify
from relaybroker.domain.permissions import is_bypassed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from relaybroker.domain.events import Recorded

_log = logging.getLogger(__name__)

MAX_KINDS = 256
"""Kinds of unusable frames that are written down; more are in the journal only."""


class LinkLog:
    """Writes down durable events of the link. What a frame of an unknown kind is, is said once per kind."""

    def __init__(self) -> None:
        self._rejected: set[tuple[str, str]] = set()
        self._kinds: set[str] = set()

    def observe(self, recorded: Iterable[Recorded]) -> None:
        """Take note of events that are durable."""
        for one in recorded:
            self._note(one.event)

    def _note(self, event: events.Event) -> None:
        match event:
            case events.EngineErrorReceived(code=code, message=message, request=request):
                _log.error("the engine says %s to %s: %s", code or "error", request or "something", message)
            case events.LinkBackedOff(reason=reason, detail=detail, delay_s=delay_s):
                _log.warning("no link to the engine, %s: %s; next try in %.1f s", reason, detail, delay_s)
            case events.LinkRefused(reason=reason, detail=detail):
                _log.error("the engine refused this node, %s: %s", reason, detail)
            case events.LinkOnline(not_accepted=not_accepted):
                _log.info("the link is online")
                for capability in not_accepted:
                    _log.warning("the engine did not accept capability %s", capability)
            case events.NameReserved(name=name, source=source) if is_bypassed(event.argv, event.harness.bypass):
                _log.warning("the program of %s (asked for by %s) asks for no permission", name, source)
            case events.StrangerMet(name=name, reason=reason, keeps=keeps):
                kept = "they are kept as dead letters" if keeps else "they are left to the engine"
                _log.warning(
                    "messages arrive for %r, which is not here (%s): the engine is told, %s", name, reason, kept
                )
            case events.DeliveryOffered(payload_type=kind) if (
                classify(kind) is Class.UNKNOWN and kind not in self._kinds
            ):
                if len(self._kinds) < MAX_KINDS:
                    self._kinds.add(kind)
                    _log.warning("messages of the unknown kind %r are counted and not typed", kind)
            case events.InventoryRejected(agents=agents):
                _log.warning("the engine rejected these agents: %s", "; ".join(agents))
            case events.FrameRejected(reason=reason, frame_type=kind) if (reason, kind) not in self._rejected:
                if len(self._rejected) < MAX_KINDS:
                    self._rejected.add((reason, kind))
                    _log.warning(
                        "an unusable frame, %s, type %r; further frames of this kind are only counted", reason, kind
                    )
            case _:
                pass
