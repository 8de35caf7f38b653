"""Reports are kept until confirmed; typed deliveries are never forgotten before."""

from __future__ import annotations

from relaybroker.adapters.sessions.host.ledger import DeliveryLedger, ReportLog
from relaybroker.adapters.sessions.host.protocol import Idle, Injected


def _injected(delivery_id: str) -> Injected:
    return Injected(delivery_id=delivery_id, attempt=1, bytes_written=3, evidence="echo", wait_ms=1.0)


def test_reports_are_numbered_from_one_without_gaps():
    log = ReportLog()
    assert [log.append("s", Idle(idle_s=n), 0.0).number for n in range(3)] == [1, 2, 3]
    assert (log.first_number, log.next_number) == (1, 4)


def test_confirmed_reports_are_gone_and_the_others_stay_in_order():
    log = ReportLog()
    for n in range(5):
        log.append("s", Idle(idle_s=n), 0.0)
    assert [report.number for report in log.confirm(2)] == [1, 2]
    assert [report.number for report in log.since(1)] == [3, 4, 5]
    assert [report.number for report in log.since(5)] == [5]
    assert list(log.since(6)) == []


def test_confirming_twice_or_ahead_is_no_error():
    log = ReportLog()
    log.append("s", Idle(idle_s=0), 0.0)
    assert len(log.confirm(9)) == 1
    assert log.confirm(9) == []
    assert log.append("s", Idle(idle_s=0), 0.0).number == 2


def test_a_full_log_says_so_and_still_drops_nothing():
    log = ReportLog(limit=2)
    log.append("s", Idle(idle_s=0), 0.0)
    assert not log.is_full
    for _ in range(3):
        log.append("s", Idle(idle_s=0), 0.0)
    assert log.is_full
    assert len(list(log.since(1))) == 4


def test_an_unconfirmed_delivery_is_remembered_however_many_follow():
    ledger = DeliveryLedger(remembered=2)
    for n in range(100):
        ledger.typed("s", _injected(f"d{n}"))
    assert ledger.proof("s", "d0") == _injected("d0")


def test_confirmed_deliveries_are_remembered_up_to_the_bound():
    ledger = DeliveryLedger(remembered=2)
    for n in range(4):
        ledger.typed("s", _injected(f"d{n}"))
        ledger.confirmed("s", f"d{n}")
    assert ledger.proof("s", "d1") is None
    assert ledger.proof("s", "d2") is not None
    assert ledger.proof("s", "d3") is not None


def test_a_delivery_typed_into_one_session_says_nothing_about_another():
    ledger = DeliveryLedger()
    ledger.typed("s", _injected("d"))
    assert ledger.proof("t", "d") is None
    ledger.forget_session("s")
    assert ledger.proof("s", "d") is None
    ledger.confirmed("s", "d")
    assert ledger.proof("s", "d") is None
