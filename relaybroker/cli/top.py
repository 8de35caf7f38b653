"""`relaybroker top`: the fleet as a live table, and the keys for what a person does about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, Label, Static

from relaybroker.audit.times import ago, length
from relaybroker.cli.client import segment
from relaybroker.domain.plain_text import plain

EVERY_S = 1.0
"""Between two looks at the broker."""
SHOWN_SAID_S = 5.0
"""How long the outcome of a key is shown."""
COLUMNS = ("AGENT", "STATE", "WAITING", "WHY", "OLDEST", "TYPED", "LAST TYPED", "ACKED", "MODE", "PID")

Ask = Callable[[str, str, dict[str, Any] | None], tuple[int, Any]]
"""Asks the local API: status and answer. Raises OSError when nobody answers."""


class Asking(ModalScreen[str]):
    """Asks for one line; None when it is left."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "back")]
    DEFAULT_CSS = """
    Asking { align: center middle; }
    Asking Vertical { width: 70; height: auto; border: round $accent; padding: 1 2; background: $surface; }
    """

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """The question and a line."""
        with Vertical():
            yield Label(self._question)
            yield Input()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """It is answered."""
        self.dismiss(event.value)


class Top(App[str]):
    """The table. Its result is the name of an agent to attach to, or "".

    Args:
        ask: asks the broker.
    """

    TITLE = "relaybroker"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "attach", "attach"),
        Binding("h", "hold", "hold / release"),
        Binding("f", "flush", "flush"),
        Binding("i", "answer", "answer"),
        Binding("r", "release", "release"),
        Binding("q", "leave", "leave"),
    ]
    CSS = "#head { height: auto; padding: 0 1; } #said { height: 1; padding: 0 1; color: $warning; } DataTable { height: 1fr; }"

    def __init__(self, ask: Ask) -> None:
        super().__init__()
        self._ask = ask
        self._rows: dict[str, dict[str, Any]] = {}

    def compose(self) -> ComposeResult:
        """Head, table, what was said last, keys."""
        yield Static(id="head", markup=False)
        yield DataTable(cursor_type="row", zebra_stripes=True)
        yield Static(id="said", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look."""
        table = self.query_one(DataTable)
        for title in COLUMNS:
            table.add_column(title, key=title)
        table.focus()
        self.run_worker(self._look(), exclusive=True, group="look")

    async def _look(self) -> None:
        while True:
            await self.refresh_now()
            await asyncio.sleep(EVERY_S)

    async def refresh_now(self) -> None:
        """Ask once and show it."""
        try:
            status, answer = await asyncio.to_thread(self._ask, "GET", "/api/status", None)
        except OSError as error:
            self._head(
                f"the broker does not answer: {error}", "still looking for it; start it with: relaybroker up --detach"
            )
            return
        if status >= 300:
            self._head(f"refused: {answer.get('message', status)}", "")
            return
        self._head(*_summary(answer))
        self._fill({row["name"]: row for row in answer["agents"]})

    def _head(self, first: str, second: str) -> None:
        self.query_one("#head", Static).update(f"{plain(first)}\n{plain(second)}")

    def _fill(self, rows: dict[str, dict[str, Any]]) -> None:
        """Change what has changed, so that the cursor stays where it is."""
        table = self.query_one(DataTable)
        for name in self._rows.keys() - rows.keys():
            table.remove_row(name)
        for name, row in rows.items():
            cells = _cells(row)
            if name not in self._rows:
                table.add_row(*cells, key=name)
                continue
            for title, cell in zip(COLUMNS, cells, strict=True):
                table.update_cell(name, title, cell, update_width=True)
        self._rows = rows

    def chosen(self) -> str:
        """The agent at the cursor; "" when there is none."""
        table = self.query_one(DataTable)
        if not table.row_count:
            return ""
        return str(table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value)

    # --- keys -----------------------------------------------------------------------------------------------------------

    def action_attach(self) -> None:
        """Leave for the agent's terminal."""
        if name := self.chosen():
            self.exit(name)

    def action_leave(self) -> None:
        """Leave."""
        self.exit("")

    def action_hold(self) -> None:
        """Hold the agent's messages, or let them go again."""
        if name := self.chosen():
            mode = "auto_inject" if self._rows[name]["delivery_mode"] == "manual_flush" else "manual_flush"
            self._do(f"{name} is in {mode}", "PUT", f"/api/spawned/{segment(name)}/delivery-mode", {"mode": mode})

    def action_flush(self) -> None:
        """Let through what is held."""
        if name := self.chosen():
            self._do(f"released the messages held for {name}", "POST", f"/api/spawned/{segment(name)}/flush", {})

    def action_answer(self) -> None:
        """Type a line into the agent's terminal: the answer to what it asks."""
        name = self.chosen()

        def answered(text: str | None) -> None:
            if text is not None:
                self._do(f"typed to {name}", "POST", f"/api/input/{segment(name)}", {"data": f"{text}\r"})

        if name:
            self.push_screen(Asking(f"Typed into the terminal of {name}, with Enter:"), answered)

    def action_release(self) -> None:
        """End the agent, once its name is typed."""
        name = self.chosen()

        def answered(text: str | None) -> None:
            if text == name:
                self._do(
                    f"{name} is released", "DELETE", f"/api/spawned/{segment(name)}", {"reason": "released in top"}
                )
            elif text is not None:
                self._say(f"{name} keeps running: that was not its name")

        if name:
            self.push_screen(Asking(f"This stops {name} and everything it started. Type its name:"), answered)

    def _do(self, done: str, method: str, path: str, body: dict[str, Any]) -> None:
        async def ask() -> None:
            try:
                status, answer = await asyncio.to_thread(self._ask, method, path, body)
            except OSError as error:
                self._say(f"the broker does not answer: {error}")
                return
            self._say(done if status < 300 else f"{answer.get('message', '?')} [{answer.get('code', '?')}]")
            await self.refresh_now()

        self.run_worker(ask(), group="keys")

    def _say(self, text: str) -> None:
        said = self.query_one("#said", Static)
        said.update(plain(text))
        self.set_timer(SHOWN_SAID_S, lambda: said.update(""))


def _summary(status: dict[str, Any]) -> tuple[str, str]:
    link, totals, node = status["link"], status["totals"], status["node"] or {"name": "?", "engine": "?"}
    reason = f" ({link['reason']})" if link["reason"] else ""
    first = (
        f"{node['name']}  link {link['state']}{reason}, heard {ago(link['heard_secs_ago'])}  engine {node['engine']}"
    )
    host = "host attached" if status["host"]["attached"] else "HOST NOT ATTACHED"
    counts = "  ".join(f"{name} {totals[name]}" for name in ("offered", "typed", "acked", "dropped"))
    return (
        first,
        f"{host}  {counts}  dead letters {status['dead_letter_count']}  waiting {status['pending_delivery_count']}",
    )


def _cells(row: dict[str, Any]) -> list[Text]:
    asks = row["blocked_by"]
    state = f"asks: {asks}" if asks else row["worker"] or row["registration"]
    held = row["delivery_mode"] == "manual_flush"
    values = (
        (row["name"], "bold"),
        (state, "bold red" if asks else ""),
        (row["waiting"] or "", "yellow" if row["waiting"] else ""),
        (row["waiting_reason"] or "", ""),
        ("" if row["waiting_since_secs"] is None else length(row["waiting_since_secs"]), ""),
        (row["typed"], ""),
        ("" if row["last_typed_secs_ago"] is None else length(row["last_typed_secs_ago"]), ""),
        ("" if row["acked"] is None else row["acked"], ""),
        ("held" if held else "", "yellow"),
        (row["pid"] or "", ""),
    )
    return [Text(plain(str(value)), style=style) for value, style in values]
