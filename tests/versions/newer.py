"""The program as a later version of it would be: every event has a new topic and other names for all of its fields.

`python -m tests.versions.newer [--hasty] TASK ARGUMENT…` does a task of `tests.versions.answers` in a process in which the events, as
they are imported, are those of that later version: `delivery.offered.v1` becomes `delivery.offered.v2`, each field `name` is written
as `name__newer`, and the earlier form of each event is what the program writes today. The program's code is not changed, and no process
but this one sees the substitution. A topic, path or field name that is written down anywhere beside the event's own class
names something that does not exist here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

BASE = "relaybroker.domain.events.base"
SUFFIX = "__newer"


def newer(topic: str) -> str:
    """The topic of the next version."""
    name, _, version = topic.rpartition(".v")
    return f"{name}.v{int(version) + 1}"


def upcast(body: dict[str, Any]) -> dict[str, Any]:
    """A body of today as the later version writes it."""
    return {f"{name}{SUFFIX}": value for name, value in body.items()}


def hasty(body: dict[str, Any]) -> dict[str, Any]:
    """The same, but what waits until some moment waits a second less: an upcast that changes the meaning."""
    raised = upcast(body)
    if until := raised.get(f"until{SUFFIX}"):
        raised[f"until{SUFFIX}"] = until - 1.0
    return raised


def substitute(base: Any, form: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Put the later version's `Event`, with this upcast, in the place of today's, before any event is defined."""

    class Event(base.Event, frozen=True, kw_only=True, omit_defaults=True, rename=lambda name: f"{name}{SUFFIX}"):  # type: ignore[call-arg,misc,name-defined]
        def __init_subclass__(cls, **options: Any) -> None:
            super().__init_subclass__(**options)
            if "topic" in cls.__dict__:
                cls.earlier = (*cls.__dict__.get("earlier", ()), base.Earlier(cls.topic, form))
                cls.topic = newer(cls.topic)

    base.Event = Event


class _Substituting(Loader):
    """Loads the module of the events' base, and substitutes."""

    def __init__(self, loader: Any, form: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._loader = loader
        self._form = form

    def create_module(self, spec: ModuleSpec) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        self._loader.exec_module(module)
        substitute(module, self._form)


class _Finder(MetaPathFinder):
    def __init__(self, form: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._form = form

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name != BASE:
            return None
        spec = PathFinder.find_spec(name, path, target)
        assert spec is not None
        spec.loader = _Substituting(spec.loader, self._form)
        return spec


if __name__ == "__main__":
    assert BASE not in sys.modules, "the events are not imported yet"
    words = sys.argv[1:]
    is_hasty = words[0] == "--hasty"
    sys.meta_path.insert(0, _Finder(hasty if is_hasty else upcast))
    from tests.versions.answers import main

    main(words[1:] if is_hasty else words)
