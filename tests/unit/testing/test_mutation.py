"""`make mutate`: what a run of the changed core says, and when it fails."""

from tests.mutation import HELD, KNOWN, NEAR, ROOT, Outcome, compared, described, known, modules

DIFFERENCE = """\
# relaybroker.domain.mailbox.x\u01c1Mailbox\u01c1_ahead__mutmut_2: survived
--- relaybroker/domain/mailbox.py
+++ relaybroker/domain/mailbox.py
@@ -1,4 +1,4 @@
 def _ahead(self, seq: int, msg_id: str) -> Judgement:
-    if seq in self.buffer:
+    if seq not in self.buffer:
         held = 1
"""


def test_a_change_is_described_by_where_it_is_and_what_it_changes():
    name = "relaybroker.domain.rules.actions.x\u01c1Mailbox\u01c1_ahead__mutmut_2"
    expected = "rules.actions.Mailbox._ahead: if seq in self.buffer: => if seq not in self.buffer:"
    assert described("rules/actions.py", name, DIFFERENCE) == expected
    assert (
        described("mailbox.py", "relaybroker.domain.mailbox.x_fan_key__mutmut_1", "-a\n+b\n")
        == "mailbox.fan_key: a => b"
    )


def test_a_survivor_that_is_not_listed_and_a_line_that_is_none_any_more_are_wrong():
    outcome = Outcome(killed=3, survivors=["mailbox.f: a => b", "mailbox.f: c => d"])
    assert compared("mailbox.py", ["mailbox.f: a => b", "mailbox.f: c => d"], outcome) == []
    assert compared("mailbox.py", ["mailbox.f: c => d", "mailbox.g: e => f"], outcome) == [
        "no test notices: mailbox.f: a => b",
        "strike from tests/survivors.txt, a test notices it now: mailbox.g: e => f",
    ]
    outcome.undecided = 1
    assert compared("mailbox.py", [*outcome.survivors, "mailbox.g: e => f"], outcome) == [], (
        "it may not have been tried"
    )


def test_the_list_is_in_order_and_speaks_of_held_modules_whose_tests_are_there():
    lines = KNOWN.read_text().splitlines()
    assert lines == sorted(set(lines))
    assert sum(len(known(module, KNOWN.read_text())) for module in HELD) == len(lines)
    for module, tests in HELD.items():
        assert module in modules()
        assert [name for name in tests if not (ROOT / NEAR / name).exists()] == []
