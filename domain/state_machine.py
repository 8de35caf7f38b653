"""The machine kernel: a total table of states and triggers as data, and the few things that are done with it.

Rules, for every machine of this project:

* A table names its states, its terminal states, and one target for each legal (state, trigger). Terminal states have no exits.
* `fire` is the command path: a `transitions.Machine` that holds no model runs the table, each time (ADR-0006). A trigger that the
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


class _Transition(transitions.Transition):
    """A transition on which nothing hangs: the library looks up and moves, and need not look for callbacks and conditions on the way."""

    def execute(self, event_data: transitions.EventData) -> bool:
        """Move the cursor."""
        assert self.dest is not None, "no transition of ours is internal"
        event_data.machine.set_state(self.dest, event_data.model)
        return True


class _Machine(transitions.Machine):
    """The library's machine, with these transitions and without any callbacks."""

    transition_cls = _Transition

    def callbacks(self, funcs: Iterable[object], event_data: transitions.EventData) -> None:
        """There are none."""


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
        self._machine = _Machine(
            model=None,
            states=list(self.states),
            initial=None,
            auto_transitions=False,
            transitions=self._rows(),
        )

    def _rows(self) -> list[dict[str, str]]:
        return [
            {"trigger": trigger, "source": source, "dest": target} for (source, trigger), target in self.edges.items()
        ]

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
        """The state after `trigger`, fired by the library; `IllegalTransition` if there is no such exit."""
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

    def target_of(self, trigger: str) -> str:
        """The one state that a trigger leads to, wherever it is fired."""
        (target,) = {target for (_, fired), target in self.edges.items() if fired == trigger}
        return target

    def leaving(self, state: str) -> list[tuple[str, str]]:
        """What can happen in a state, by the library's own query: (trigger, state after it), in reading order."""
        transitions = ((trigger, self._machine.get_transitions(trigger, state)) for trigger in self.triggers)
        return [(trigger, str(rows[0].dest)) for trigger, rows in transitions if rows]

    def mermaid(self) -> str:
        """The table as a Mermaid state diagram, by the library's own export."""
        from transitions.extensions import GraphMachine

        drawn = GraphMachine(
            model=None,
            states=list(self.states),
            initial=self.initial,
            auto_transitions=False,
            graph_engine="mermaid",
            transitions=self._rows(),
        )
        drawn.style_attributes = {"node": {"default": {}}}
        drawn.machine_attributes = {"direction": "LR"}
        diagram = drawn.graph_cls(drawn).get_graph().draw(None) or ""
        lines = diagram[diagram.index("stateDiagram") :].splitlines()
        lines = [line for line in lines if not line.lstrip().startswith(("classDef", "Class "))]  # colours
        ends = [f"  {state} --> [*]" for state in self.states if state in self.terminal]
        return "\n".join(line for line in [*lines, *ends] if line.strip())
