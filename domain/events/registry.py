"""Every event by its topic, and the way from each superseded topic to the event of today.

All that depends on topics is derived from here: what a log may hold, what is read as what, and what is looked up (ADR-0046).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from relaybroker.domain.events.base import Earlier, Event


class Superseded(NamedTuple):
    """What an earlier form is read as: the event of today, through these upcasts in turn."""

    event: type[Event]
    steps: tuple[Earlier, ...]

    def upcast(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body of today's event that a body of this form is."""
        for step in self.steps:
            body = step.upcast(body)
        return body


class Registry(Mapping[str, type[Event]]):
    """Topic -> event class of the current versions; `superseded` has the earlier ones.

    Args:
        events: the classes.

    Raises:
        TypeError: two forms have the same topic.
    """

    def __init__(self, events: Iterable[type[Event]]) -> None:
        current: dict[str, type[Event]] = {}
        superseded: dict[str, Superseded] = {}
        for event in events:
            for place, form in enumerate(event.earlier):
                if form.topic in superseded:
                    raise TypeError(f"two events were once {form.topic}")
                superseded[form.topic] = Superseded(event, event.earlier[place:])
            if event.topic in current:
                raise TypeError(f"two events with topic {event.topic}")
            current[event.topic] = event
        if both := current.keys() & superseded.keys():
            raise TypeError(f"topics both current and superseded: {sorted(both)}")
        self._current = dict(sorted(current.items()))
        self.superseded: Mapping[str, Superseded] = MappingProxyType(dict(sorted(superseded.items())))

    def __getitem__(self, topic: str) -> type[Event]:
        return self._current[topic]

    def __iter__(self) -> Iterator[str]:
        return iter(self._current)

    def __len__(self) -> int:
        return len(self._current)


def topics_of(event: type[Event]) -> tuple[str, ...]:
    """Every topic under which the event was ever written, the current one first."""
    return (event.topic, *(form.topic for form in event.earlier))


def every_event(base: type[Event] = Event) -> Iterator[type[Event]]:
    """The event classes that have been defined; those with a leading underscore are common shapes of several."""
    for event in base.__subclasses__():
        if not event.__name__.startswith("_"):
            yield event
        yield from every_event(event)
