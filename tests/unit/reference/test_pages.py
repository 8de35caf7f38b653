"""The generated pages are those of the code."""

from __future__ import annotations

from relaybroker.domain.events import REGISTRY
from relaybroker.domain.machines import MACHINES
from relaybroker.domain.reasons import Reason
from relaybroker.reference import pages


def test_the_committed_pages_are_up_to_date():
    assert pages.main(["--check"]) == 0


def test_every_machine_event_and_reason_is_on_its_page():
    machines, events, reasons = pages.machines(), pages.events(), pages.reasons()
    assert all(f"## {name}" in machines for name in MACHINES)
    assert all(f"`{topic}`" in events for topic in REGISTRY)
    assert all(f"`{reason}`" in reasons for reason in Reason)


def test_a_page_that_differs_is_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    assert pages.main([]) == 0
    (tmp_path / "reasons.md").write_text("something else\n")
    assert pages.main(["--check"]) == 1
    assert "docs/reasons.md" in capsys.readouterr().out
