"""The machine kernel: a total table of states and triggers as data, and the few things that are done with it.

Rules, for every machine of this project:

* A table names its states, its terminal states, and one target for each legal (state, trigger). Terminal states have no exits.
* `fire` is the command path: the table is run by a `transitions.Machine` that holds no model (ADR-0006). A trigger that the
  state does not have raises `IllegalTransition` and changes nothing.
* `follow` is the replay path: the same table as a plain lookup.
* Nothing hangs on a transition: no callbacks, no conditions. Guards live in the decisions, so that a refusal has a reason.

Source: design/architecture.md section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType

import transitions

from relaybroker.domain.errors import IllegalTransition


class _Cursor:
    """The state of one firing. `transitions` moves it; it never becomes a model of the machine."""

    __slots__ = ("state",)

    def __init__(self, state: str) -> None:
        self.state = state


class Table:
    """One state machine as data: total, checked when it is built.

    Args:
        name: the machine's name as people see it (`delivery`).
        states: every state; the first one is initial.
        terminal: the states without exits.
        triggers: every trigger.
        edges: (trigger, source states, target) rows, in reading order.
        rules: the rules in prose, shown with the diagram.

    Raises:
        ValueError: the rows do not make a total table (unknown names, exits from terminal states, unreachable states).
    """

    def __init__(
        self,
        name: str,
        *,
        states: type[StrEnum],
        terminal: Iterable[StrEnum],
        triggers: type[StrEnum],
        edges: Iterable[tuple[StrEnum, Iterable[StrEnum], StrEnum]],
        rules: str,
    ) -> None:
        self.name = name
        self.states: tuple[str, ...] = tuple(str(state) for state in states)
        self.initial = self.states[0]
        self.terminal = frozenset(str(state) for state in terminal)
        self.triggers: tuple[str, ...] = tuple(str(trigger) for trigger in triggers)
        self.rules = rules.strip()
        rows: dict[tuple[str, str], str] = {}
        for trigger, sources, target in edges:
            for source in sources:
                if (str(source), str(trigger)) in rows:
                    raise ValueError(f"{name}: two targets for {trigger} from {source}")
                rows[str(source), str(trigger)] = str(target)
        self.edges: Mapping[tuple[str, str], str] = MappingProxyType(rows)
        self._check()
        self._fired: dict[tuple[str, str], str] = {}
        self._machine = transitions.Machine(
            model=None,
            states=list(self.states),
            initial=None,
            auto_transitions=False,
            transitions=[
                {"trigger": trigger, "source": source, "dest": target} for (source, trigger), target in rows.items()
            ],
        )

    def _check(self) -> None:
        names = set(self.states)
        reached = {self.initial}
        for (source, trigger), target in self.edges.items():
            if source not in names or target not in names or trigger not in self.triggers:
                raise ValueError(f"{self.name}: unknown name in {source} --{trigger}--> {target}")
            if source in self.terminal:
                raise ValueError(f"{self.name}: terminal state {source} has an exit")
            reached.add(target)
        if unreached := names - reached:
            raise ValueError(f"{self.name}: unreachable states {sorted(unreached)}")
        for state in names - self.terminal:
            if not any(source == state for source, _ in self.edges):
                raise ValueError(f"{self.name}: state {state} has no exit and is not terminal")

    def fire(self, state: str, trigger: str) -> str:
        """The state after `trigger`, decided by the state machine engine; `IllegalTransition` if there is no such exit.

        What the engine answered is kept: with no conditions and no callbacks it can answer nothing else.
        """
        target = self._fired.get((state, trigger))
        if target is None:
            target = self._fired[state, trigger] = self._run(state, trigger)
        return target

    def _run(self, state: str, trigger: str) -> str:
        cursor = _Cursor(state)
        try:
            self._machine.events[trigger].trigger(cursor)
        except (transitions.MachineError, KeyError) as error:
            raise IllegalTransition(self.name, state, trigger) from error
        return cursor.state

    def follow(self, state: str, trigger: str) -> str:
        """The state after `trigger` in a recorded history: a plain lookup, the same table."""
        try:
            return self.edges[state, trigger]
        except KeyError as error:
            raise IllegalTransition(self.name, state, trigger) from error

    def mermaid(self) -> str:
        """The table as a Mermaid state diagram."""
        lines = ["stateDiagram-v2", f"    [*] --> {self.initial}"]
        merged: dict[tuple[str, str], list[str]] = {}
        for (source, trigger), target in self.edges.items():
            merged.setdefault((source, target), []).append(trigger)
        lines += [f"    {source} --> {target}: {' / '.join(names)}" for (source, target), names in merged.items()]
        lines += [f"    {state} --> [*]" for state in self.states if state in self.terminal]
        return "\n".join(lines)
