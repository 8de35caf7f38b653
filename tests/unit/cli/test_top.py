"""The live table: what it shows is what the broker says, and each key asks for what it is called."""

from __future__ import annotations

import asyncio

import pytest
from textual.widgets import DataTable, Input, Static

from relaybroker.cli.top import COLUMNS, Top
from tests.waiting import WAIT_S


def _row(name, **fields):
    return {
        "name": name, "worker": "ready", "registration": "live", "blocked_by": "", "waiting": 0, "waiting_reason": None,
        "waiting_since_secs": None, "typed": 3, "last_typed_secs_ago": 4.0, "acked": 7, "delivery_mode": "auto_inject", "pid": 11,
    } | fields  # fmt: skip


class Broker:
    """Answers as the local API does, and remembers what it was asked."""

    def __init__(self, *rows):
        self.rows = list(rows)
        self.asked = []
        self.gone = False

    def __call__(self, method, path, body=None):
        if self.gone:
            raise ConnectionRefusedError("connection refused")
        if method == "GET":
            return 200, {
                "agents": self.rows,
                "link": {"state": "online", "reason": None, "heard_secs_ago": 0.4},
                "node": {"name": "desk", "engine": "http://e"},
                "host": {"attached": True},
                "totals": {"offered": 9, "typed": 8, "acked": 7, "dropped": 1},
                "dead_letter_count": 2,
                "pending_delivery_count": 1,
            }
        self.asked.append((method, path, body))
        return (409, {"code": "no", "message": "not now"}) if "stubborn" in path else (200, {})


def _table(app):
    table = app.query_one(DataTable)
    return [[str(cell) for cell in table.get_row_at(place)] for place in range(table.row_count)]


async def _until(pilot, holds):
    async with asyncio.timeout(WAIT_S):
        while not holds():
            await pilot.pause(0.01)


@pytest.fixture
def broker():
    waits = {"waiting": 2, "waiting_reason": "agent_busy", "waiting_since_secs": 125.0}
    return Broker(_row("ann", **waits), _row("bob", blocked_by="trust\x1b[2J", pid=None), _row("stubborn"))


async def test_rows_show_state_what_waits_and_why_and_nothing_that_acts(broker):
    app = Top(broker)
    async with app.run_test(size=(160, 20)) as pilot:
        await app.refresh_now()
        ann, bob, _ = _table(app)
        shown = dict(zip(COLUMNS, ann, strict=True))
        assert (shown["WAITING"], shown["WHY"], shown["OLDEST"], shown["ACKED"]) == ("2", "agent_busy", "2m 05s", "7")
        assert dict(zip(COLUMNS, bob, strict=True))["STATE"] == r"asks: trust\x1b[2J"
        head = str(app.query_one("#head", Static).render())
        assert "link online" in head
        assert "dead letters 2" in head
        await pilot.press("down")
        broker.rows = [_row("bob", waiting=1, waiting_reason="queued"), _row("eve")]
        await app.refresh_now()
        assert [row[0] for row in _table(app)] == ["bob", "eve"]
        assert app.chosen() in ("bob", "eve")
        broker.gone = True
        await app.refresh_now()
        assert "does not answer" in str(app.query_one("#head", Static).render())


async def test_each_key_asks_for_what_it_is_called(broker):
    app = Top(broker)
    async with app.run_test(size=(160, 20)) as pilot:
        await app.refresh_now()
        await pilot.press("h", "f", "i")
        await pilot.pause()
        app.screen.query_one(Input).value = "y"
        await pilot.press("enter", "r")
        await pilot.pause()
        app.screen.query_one(Input).value = "another name"
        await pilot.press("enter", "r")
        await pilot.pause()
        app.screen.query_one(Input).value = "ann"
        await pilot.press("enter")
        await _until(pilot, lambda: len(broker.asked) == 4)
        assert broker.asked == [
            ("PUT", "/api/spawned/ann/delivery-mode", {"mode": "manual_flush"}),
            ("POST", "/api/spawned/ann/flush", {}),
            ("POST", "/api/input/ann", {"data": "y\r"}),
            ("DELETE", "/api/spawned/ann", {"reason": "released in top"}),
        ]
        await pilot.press("down", "down", "f")
        await _until(pilot, lambda: "not now [no]" in str(app.query_one("#said", Static).render()))
        await pilot.press("a")
    assert app.return_value == "stubborn"
