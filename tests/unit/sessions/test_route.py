"""The route of a session: one delivery at a time through its door, never through another one after a hand-over began."""

from __future__ import annotations

import asyncio
import os
import subprocess

import msgspec
import pytest

from relaybroker.adapters.sessions import known, looking_up, route
from relaybroker.adapters.sessions.door import (
    MAX_PLACE,
    MAX_POINTER,
    Absent,
    Accepted,
    Door,
    Evidence,
    NotHandedOver,
    Opened,
    PassedOver,
    QuestionGone,
    Unknowable,
    message_id,
)
from relaybroker.adapters.sessions.host.protocol import (
    Answered,
    AnswerQuestion,
    Blocked,
    DoorChosen,
    Freed,
    Inject,
    Injected,
    InjectFailed,
    LookUp,
    Occupied,
)
from relaybroker.adapters.sessions.kinds import Launch, Prepared
from relaybroker.adapters.sessions.route import Route
from relaybroker.domain.questions import Option, question
from tests.waiting import WAIT_S

LAUNCH = Launch("ws_1", ("agent",), {}, "/", "default")


class ScriptedDoor(Door):
    """A door that does what the test says."""

    name, folds, state = "inbox", False, "idle"

    def __init__(self, name="inbox", *, opens=None, folds=False):
        self.name, self.folds, self.state, self.asks = name, folds, "idle", None
        self._opens = Opened(place="over there") if opens is None else opens
        self.taken: list[str] = []
        self.steered: list[str] = []
        self.shows: asyncio.Queue[Evidence | Exception] = asyncio.Queue()
        self.refuses: Exception | None = None
        self.records: object = Absent()
        self.is_closed = False

    @property
    def question(self):
        return self.asks

    async def open(self):
        return await self._opens if asyncio.isfuture(self._opens) else self._opens

    async def hand_over(self, delivery_id, text, *, steer):
        if self.refuses is not None:
            raise self.refuses
        self.taken.append(text)
        self.steered += [text] * steer

    async def evidence(self, delivery_id):
        shown = await self.shows.get()
        if isinstance(shown, Exception):
            raise shown
        return shown

    async def look_up(self, delivery_id):
        return self.records

    async def close(self):
        self.is_closed = True


class Session:
    """What a route needs of its session."""

    busy_patience_s = 300.0

    def __init__(self, *doors, passed_over=None):
        self.ready = True
        self.facts: list[object] = []
        self.typed: list[Inject] = []
        self.asked: list[Blocked | None] = []
        self.failure: BaseException | None = None
        self.route = Route(self, Prepared(LAUNCH, doors, passed_over or {}))
        self.route.start(self._failed)

    def _failed(self, error):
        self.failure = error

    def may_type(self):
        return self.ready

    def report(self, fact):
        self.facts.append(fact)

    def asks(self, blocked):
        self.asked.append(blocked)

    def type(self, inject):
        self.typed.append(inject)

    async def look_up(self, request):
        return await self.route.look_up(request.door, request.delivery_id)

    def inject(self, name, **fields):
        self.route.accept(Inject(**{"session_id": "s", "delivery_id": name, "attempt": 1, "text": name} | fields))

    def of(self, kind):
        return [fact for fact in self.facts if isinstance(fact, kind)]

    def failures(self):
        return [(fact.delivery_id, fact.reason, fact.typed) for fact in self.of(InjectFailed)]

    async def until(self, condition):
        async with asyncio.timeout(WAIT_S):
            while not condition():
                assert self.failure is None
                await asyncio.sleep(0.001)

    async def shows(self, door, name, pointer="row 7"):
        """The program shows that it took what it was handed last."""
        await self.until(lambda: name in door.taken)
        door.shows.put_nowait(Evidence("transcript", pointer))
        await self.until(lambda: name in [fact.delivery_id for fact in self.of(Injected)])


async def turns():
    """Let everything else have its turn, many times."""
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.fixture
def quick(monkeypatch):
    """Bounds that a test can wait for."""
    monkeypatch.setattr(route, "EVIDENCE_S", 0.02)
    monkeypatch.setattr(ScriptedDoor, "open_s", 0.02)
    monkeypatch.setattr(route, "LOOK_S", 0.001)


async def test_the_first_door_that_opens_is_chosen_and_every_other_one_has_its_reason(quick):
    never = asyncio.get_running_loop().create_future()
    slow, third, fourth = ScriptedDoor("slow", opens=never), ScriptedDoor("third"), ScriptedDoor("fourth")
    shut = ScriptedDoor("shut", opens=PassedOver("it is no such program"))
    session = Session(shut, slow, third, fourth, passed_over={"none": "this host has no door none"})
    await session.until(lambda: session.of(DoorChosen))
    (chosen,) = session.of(DoorChosen)
    assert (chosen.door, chosen.place) == ("third", "over there")
    assert list(chosen.passed_over) == ["none", "shut", "slow"]
    assert chosen.passed_over["shut"] == "it is no such program"
    assert "did not open within" in chosen.passed_over["slow"]
    assert [door.is_closed for door in (shut, slow, third, fourth)] == [True, True, False, False]
    await session.route.close("agent_released")
    assert [third.is_closed, fourth.is_closed] == [True, True], "what was prepared is given back"


async def test_a_question_in_front_of_a_door_takes_a_person_as_long_as_it_takes(monkeypatch):
    monkeypatch.setattr(ScriptedDoor, "open_s", 0)  # only a program that is ready has that bound
    opening = asyncio.get_running_loop().create_future()
    session = Session(ScriptedDoor(opens=opening))
    session.ready = False
    await turns()
    assert session.facts == []
    opening.set_result(Opened())
    await session.until(lambda: [chosen.door for chosen in session.of(DoorChosen)] == ["inbox"])
    await session.route.close("agent_released")


async def test_without_a_door_that_opens_everything_is_typed_in_order():
    opening = asyncio.get_running_loop().create_future()
    session = Session(ScriptedDoor(opens=opening))
    session.inject("d1")
    session.inject("d2")
    opening.set_exception(RuntimeError("it broke"))
    await session.until(lambda: len(session.typed) == 2)
    session.inject("d3")
    assert [inject.delivery_id for inject in session.typed] == ["d1", "d2", "d3"]
    (chosen,) = session.of(DoorChosen)
    assert (chosen.door, "it broke" in chosen.passed_over["inbox"]) == ("", True)


async def test_one_delivery_at_a_time_is_handed_over_and_reported_with_door_evidence_and_pointer():
    door = ScriptedDoor(opens=Opened("p" * 2 * MAX_PLACE))
    session = Session(door)
    session.inject("d1")
    session.inject("d2")
    session.inject("d2", attempt=2)
    await session.until(lambda: door.taken == ["d1"])
    session.inject("d1", attempt=2)
    assert session.route.queued == ("d1", "d2")
    await session.shows(door, "d1", pointer="x" * 2 * MAX_POINTER)
    assert session.of(Injected)[0].attempt == 2, "the outcome is that of the newest attempt, which is waited for"
    await session.shows(door, "d2")
    first, second = session.of(Injected)
    assert (first.door, first.evidence, first.pointer) == ("inbox", "transcript", "x" * MAX_POINTER)
    assert (second.delivery_id, second.attempt, second.pointer) == ("d2", 2, "row 7")
    assert door.taken == ["d1", "d2"], "asked again means nothing more"
    assert len(session.of(DoorChosen)[0].place) == MAX_PLACE
    assert session.route.is_idle
    await session.route.close("agent_released")


async def test_what_waits_for_a_program_at_work_is_handed_back_until_it_is_free(quick):
    door = ScriptedDoor()
    door.state = "busy"
    session = Session(door)
    session.inject("d1")
    session.inject("d2", steer=True)
    await session.until(lambda: len(session.failures()) == 2)
    assert session.failures() == [("d1", "agent_busy", "no"), ("d2", "agent_busy", "no")]
    (occupied,) = session.of(Occupied)
    assert (occupied.reason, occupied.patience_s, session.of(Freed)) == ("agent_busy", 0.0, [])
    assert not session.route.is_idle
    session.inject("d1", attempt=2)
    await session.until(lambda: len(session.failures()) == 3)
    kinds = [type(fact) for fact in session.facts[-2:]]
    assert kinds == [Occupied, InjectFailed], "a broker that takes it for free would ask again at once, for ever"
    door.state = "idle"
    await session.until(lambda: session.of(Freed))
    session.inject("d1", attempt=3)
    await session.shows(door, "d1")
    await session.route.close("agent_released")


async def test_a_steer_message_goes_into_the_turn_where_the_door_folds_it(quick):
    door = ScriptedDoor(folds=True)
    door.state = "busy"
    session = Session(door)
    session.inject("d1")
    await session.until(lambda: session.failures() == [("d1", "agent_busy", "no")])
    assert session.of(Occupied)[0].patience_s == session.busy_patience_s
    session.inject("d2", steer=True)
    await session.shows(door, "d2")
    session.inject("d3", while_busy=True)
    await session.shows(door, "d3")
    assert door.steered == ["d2"], "what has only waited long enough interrupts nothing"
    assert session.of(Freed) == []
    await session.route.close("agent_released")


async def test_a_door_that_fails_while_the_program_works_is_left_for_the_next_one(quick):
    door, behind = ScriptedDoor(folds=True), ScriptedDoor("server")
    door.state, door.refuses = "busy", NotHandedOver("the socket is gone")
    session = Session(door, behind)
    session.inject("d1")
    await session.until(lambda: session.of(Occupied))
    session.inject("d2", steer=True)
    await session.until(lambda: session.of(Freed))
    assert session.of(DoorChosen)[-1].door == "server"
    session.inject("d1", attempt=2)
    await session.shows(behind, "d1")
    await session.route.close("agent_released")


async def test_a_program_that_asks_a_person_gets_nothing(quick):
    door = ScriptedDoor(folds=True)
    door.state = "blocked"
    session = Session(door)
    session.inject("d1", steer=True)
    await session.until(lambda: session.failures() == [("d1", "blocked_by_dialog", "no")])
    assert session.asked[-1] == Blocked(pattern="question")
    door.state = "idle"
    await session.until(lambda: session.asked[-1] is None)
    assert door.taken == []
    await session.route.close("agent_released")


async def test_what_a_door_tells_of_a_question_is_known_at_once_also_while_nothing_waits():
    door = ScriptedDoor()
    session = Session(door)
    await session.until(lambda: session.of(DoorChosen))
    asked = question("q1", "permission", ["May it?"], [Option("y", "Yes", "allow_once")])
    door.state, door.asks = "blocked", asked
    door.on_change()
    assert session.asked[-1] == Blocked(pattern="permission", question=asked)
    answer = AnswerQuestion(request_id="r", session_id="ws_1", question_id="q2", option_id="y", by="ann")
    assert await session.route.answer(answer) == "question_changed"
    answer = msgspec.structs.replace(answer, question_id="q1")
    assert await session.route.answer(msgspec.structs.replace(answer, option_id="n")) == "question_changed"
    assert await session.route.answer(answer) == "question_changed", "the door says that it is gone"
    assert session.of(Answered) == []
    door.state, door.asks = "idle", None
    door.on_change()
    assert session.asked[-1] is None
    assert await session.route.answer(answer) == "question_changed"
    await session.route.close("agent_released")


async def test_the_question_of_a_door_that_is_left_is_asked_no_more():
    door = ScriptedDoor()
    session = Session(door)
    await session.until(lambda: session.of(DoorChosen))
    door.asks = question("q1", "permission", ["May it?"], [])
    door.on_change()
    door.state = "closed"
    session.inject("d1")
    await session.until(lambda: session.of(DoorChosen)[-1].door == "")
    assert session.asked[-1] is None
    await session.route.close("agent_released")


@pytest.mark.parametrize("how", ["refuses", "closes"])
async def test_before_a_hand_over_the_next_door_takes_over_once_the_broker_knows(how):
    """Nothing enters by the new door before it is reported, and everything is handed back behind that report."""
    door, behind = ScriptedDoor(), ScriptedDoor("server")
    session = Session(door, behind)
    await session.until(lambda: session.of(DoorChosen))
    if how == "refuses":
        door.refuses = NotHandedOver("the socket is gone")
    else:
        door.state = "closed"
    session.inject("d1")
    session.inject("d2")
    await session.until(lambda: len(session.failures()) == 2)
    assert session.failures() == [("d1", "out_of_turn", "no"), ("d2", "out_of_turn", "no")]
    assert [type(fact) for fact in session.facts] == [DoorChosen, DoorChosen, InjectFailed, InjectFailed]
    chosen = session.of(DoorChosen)[-1]
    assert (chosen.door, list(chosen.passed_over)) == ("server", ["inbox"])
    assert (door.is_closed, door.taken, behind.taken) == (True, [], [])
    session.inject("d1", attempt=2)
    await session.shows(behind, "d1")
    await session.route.close("agent_released")


async def test_what_is_asked_for_again_amid_a_hand_over_that_fails_is_handed_back_as_the_newest_attempt():
    """The broker takes no notice of an older one, and would wait for it."""
    door, begun, ends = ScriptedDoor(), asyncio.Event(), asyncio.Event()

    async def hand_over(*_, **__):
        begun.set()
        await ends.wait()
        raise NotHandedOver("the socket is gone")

    door.hand_over = hand_over
    session = Session(door)
    session.inject("d1")
    await asyncio.wait_for(begun.wait(), WAIT_S)
    session.inject("d1", attempt=2)
    ends.set()
    await session.until(session.failures)
    (failed,) = session.of(InjectFailed)
    assert (failed.attempt, failed.reason) == (2, "out_of_turn")


@pytest.mark.parametrize("ends", [False, True])
async def test_what_comes_while_another_door_is_opened_is_handed_back_and_never_typed_before(ends):
    """W5: also when the session ends in the middle of that."""
    opening = asyncio.get_running_loop().create_future()
    door, behind = ScriptedDoor(), ScriptedDoor("server", opens=opening)
    session = Session(door, behind)
    door.refuses = NotHandedOver("the socket is gone")
    session.inject("d1")
    await session.until(lambda: door.is_closed)
    session.inject("d2")
    if ends:
        await session.route.close("worker_exited")
        assert session.failures() == [("d1", "worker_exited", "no"), ("d2", "worker_exited", "no")]
    else:
        opening.set_result(PassedOver("it is too old"))
        await session.until(lambda: len(session.failures()) == 2)
        assert session.failures() == [("d1", "out_of_turn", "no"), ("d2", "out_of_turn", "no")]
        assert session.of(DoorChosen)[-1].door == ""
    assert session.typed == []


async def test_behind_the_last_door_is_the_terminal():
    door = ScriptedDoor()
    door.refuses = NotHandedOver("the socket is gone")
    session = Session(door)
    session.inject("d1")
    await session.until(lambda: session.failures() == [("d1", "out_of_turn", "no")])
    assert session.of(DoorChosen)[-1].door == ""
    session.inject("d1", attempt=2)
    assert [inject.attempt for inject in session.typed] == [2]


@pytest.mark.parametrize("how", ["nothing is shown", "the hand-over fails", "the evidence cannot be read"])
async def test_after_a_hand_over_no_other_door_gets_it_and_it_is_not_handed_over_again(quick, how):
    """LOOKED-UP, PROOF, TYPED-ONCE: nobody knows, so it is looked up first."""
    door, behind = ScriptedDoor(), ScriptedDoor("server")
    session = Session(door, behind)
    if how == "the hand-over fails":
        door.refuses = ConnectionResetError("in the middle")
    elif how == "the evidence cannot be read":
        door.shows.put_nowait(OSError("no such transcript"))
    session.inject("d1")
    session.inject("d2")
    await session.until(lambda: len(session.failures()) == 2)
    assert session.failures() == [("d1", "no_evidence", "unknown"), ("d2", "out_of_turn", "no")]
    handed_over = list(door.taken)
    session.inject("d1", attempt=2)
    assert session.failures()[-1] == ("d1", "no_evidence", "unknown")
    assert (door.taken, behind.taken) == (handed_over, [])
    door.refuses = None
    assert await session.route.look_up(door.name, "d1") == Absent()
    session.inject("d1", attempt=3)
    await session.until(lambda: len(door.taken) == len(handed_over) + 1)
    await session.route.close("agent_released")
    assert session.failures()[-1] == ("d1", "agent_released", "unknown")


class Beginning(ScriptedDoor):
    """Its person submits something in the moment of the hand-over."""

    async def hand_over(self, delivery_id, text, *, steer):
        await super().hand_over(delivery_id, text, steer=steer)
        self.state = "busy"


@pytest.mark.parametrize(("make", "before"), [(ScriptedDoor, "busy"), (Beginning, "idle")])
async def test_what_is_behind_a_long_turn_is_waited_for_as_long_as_the_turn_runs(monkeypatch, make, before):
    monkeypatch.setattr(route, "EVIDENCE_S", 0.001)
    door = make(folds=True)
    door.state = before
    session = Session(door)
    session.inject("d1", steer=True)
    await session.until(lambda: door.taken == ["d1"])
    await turns()
    assert session.failures() == []
    door.state = "idle"
    await session.until(lambda: session.failures() == [("d1", "no_evidence", "unknown")])
    await session.route.close("agent_released")


async def test_what_cannot_go_in_is_refused():
    door = ScriptedDoor()
    session = Session(door)
    session.ready = False
    session.inject("late", expires_at=1.0)
    session.inject("big", text="x" * (route.MAX_TEXT_BYTES + 1))
    for number in range(route.MAX_QUEUED):
        session.inject(f"d{number}")
    assert session.failures() == [("big", "too_large", "no"), (f"d{route.MAX_QUEUED - 1}", "queue_full", "no")]
    session.ready = True
    session.route.notify()
    await session.until(lambda: ("late", "expired", "no") in session.failures())
    await session.route.close("worker_exited")
    assert ("d0", "worker_exited") in [failure[:2] for failure in session.failures()]
    assert session.route.queued == ()


# --- look-ups ------------------------------------------------------------------------------------------------------------


class Kind:
    """Doors for look-ups."""

    def __init__(self, door):
        self.door, self.places = door, []

    async def prepare(self, launch):
        return Launch(launch.session_id, (*launch.argv, f"--{self.door.name}"), launch.env, launch.cwd, "x"), self.door

    def at(self, place):
        self.places.append(place)
        return self.door


def _request(**fields):
    named = {"request_id": "r", "session_id": "s", "delivery_id": "d1", "door": "inbox", "place": "over there"}
    return LookUp(**named | fields)


@pytest.mark.parametrize(
    ("records", "said"),
    [
        (Accepted(Evidence("item", "i" * 600)), {"outcome": "accepted", "evidence": "item", "pointer": "i" * 512}),
        (Absent(), {"outcome": "absent"}),
        (Unknowable("it was cleared"), {"outcome": "unknowable", "detail": "it was cleared"}),
    ],
)
async def test_a_look_up_asks_the_open_door_or_makes_one_for_it(monkeypatch, records, said):
    door = ScriptedDoor()
    door.records = records
    monkeypatch.setitem(known.KINDS, "inbox", kind := Kind(door))
    session = Session(door)
    await session.until(lambda: session.of(DoorChosen))
    assert await looking_up.look_up(session, _request()) == said
    assert (kind.places, door.is_closed) == ([], False)
    await session.route.close("worker_exited")
    door.state, door.is_closed = "closed", False
    for gone in (session, None):
        assert await looking_up.look_up(gone, _request()) == said
        assert door.is_closed
    assert kind.places == ["over there"] * 2


async def test_a_look_up_that_fails_in_any_way_is_answered(monkeypatch):
    assert (await looking_up.look_up(None, _request(door="none")))["detail"] == "this host has no door none"
    door = ScriptedDoor()
    monkeypatch.setitem(known.KINDS, "inbox", Kind(door))

    async def fails(_delivery_id):
        raise OSError("no such directory")

    door.look_up = fails
    said = await looking_up.look_up(None, _request())
    assert (said["outcome"], "no such directory" in said["detail"]) == ("unknowable", True)

    async def hangs(_delivery_id):
        await asyncio.get_running_loop().create_future()

    door.look_up = hangs
    monkeypatch.setattr(looking_up, "LOOK_UP_S", 0.01)
    said = await looking_up.look_up(None, _request())
    assert (said["outcome"], "did not tell" in said["detail"]) == ("unknowable", True)


# --- preparation ---------------------------------------------------------------------------------------------------------


async def test_a_program_is_started_with_what_its_doors_need_and_the_terminal_ends_the_list(monkeypatch):
    monkeypatch.setitem(known.KINDS, "one", Kind(ScriptedDoor("one")))
    monkeypatch.setitem(known.KINDS, "two", Kind(ScriptedDoor("two")))
    prepared = await known.prepare(("one", "other", "two", "pty_paste", "one"), LAUNCH)
    assert prepared.launch.argv == ("agent", "--one", "--two")
    assert [door.name for door in prepared.doors] == ["one", "two"]
    assert prepared.passed_over == {"other": "this host has no door other"}
    await prepared.close()
    assert all(door.is_closed for door in prepared.doors)


@pytest.mark.parametrize("how", ["passed over", "fails", "cannot fork", "hangs"])
async def test_a_door_that_cannot_be_prepared_is_passed_over(monkeypatch, how):
    kind = Kind(ScriptedDoor("one"))

    async def prepare(_launch):
        if how == "passed over":
            return PassedOver("too old")
        if how == "fails":
            raise FileNotFoundError("no such program")
        if how == "cannot fork":
            raise subprocess.SubprocessError("Exception occurred in preexec_fn.")
        return await asyncio.get_running_loop().create_future()

    kind.prepare = prepare
    monkeypatch.setitem(known.KINDS, "one", kind)
    monkeypatch.setattr(known, "PREPARE_S", 0.01)
    prepared = await known.prepare(("one",), LAUNCH)
    why = {
        "passed over": "too old",
        "fails": "no such program",
        "cannot fork": "preexec_fn",
        "hangs": "not prepared within",
    }[how]
    assert (prepared.doors, why in prepared.passed_over["one"]) == ((), True)


def test_only_folders_of_sessions_that_are_long_over_are_tidied_away(tmp_path):
    for name in ("living", "over", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.jsonl").touch()
    (tmp_path / ".DS_Store").touch()
    for path in (tmp_path / "living", tmp_path / "over"):
        for one in (path / "notes.jsonl", path):
            os.utime(one, (1, 1))
    known.tidy(tmp_path, {"living"})
    assert sorted(one.name for one in tmp_path.iterdir()) == [".DS_Store", "living", "new"]
    known.tidy(tmp_path / "none", ())


def test_a_program_knows_a_delivery_by_the_same_uuid_for_ever():
    """A look-up needs nothing that was stored: this value must never change."""
    assert message_id("delivery:x@1") == message_id("delivery:x@1") != message_id("delivery:x@2")
    assert message_id("delivery:x@1") == "6aae0948-a062-5358-b473-12e2ecffc3c2"


class Answering(ScriptedDoor):
    """It takes answers."""

    def __init__(self, fails=None):
        super().__init__()
        self.fails = fails
        self.answers: list[tuple[str, str]] = []
        self.state, self.asks = "blocked", question("q1", "permission", ["May it?"], [Option("y", "Yes")])

    async def answer(self, question_id, option_id):
        if self.fails is not None:
            raise self.fails
        self.answers.append((question_id, option_id))
        self.state, self.asks = "busy", None
        self.on_change()


async def test_an_answer_goes_to_the_door_once_and_who_gave_it_is_reported():
    door = Answering()
    session = Session(door)
    await session.until(lambda: session.asked and session.asked[-1])
    answer = AnswerQuestion(request_id="r", session_id="ws_1", question_id="q1", option_id="y", by="ann")
    assert await session.route.answer(answer) == ""
    assert await session.route.answer(answer) == "question_changed"
    assert door.answers == [("q1", "y")]
    (told,) = session.of(Answered)
    assert (told.question_id, told.question, told.option_id, told.option, told.by) == (
        "q1",
        "permission",
        "y",
        "Yes",
        "ann",
    )
    assert session.asked[-1] is None
    await session.route.close("agent_released")


@pytest.mark.parametrize(
    ("fails", "error"), [(ConnectionError("gone"), "answer_not_taken"), (QuestionGone(), "question_changed")]
)
async def test_an_answer_that_may_not_have_been_given_is_not_reported_as_given(fails, error):
    session = Session(Answering(fails))
    await session.until(lambda: session.asked and session.asked[-1])
    answer = AnswerQuestion(request_id="r", session_id="ws_1", question_id="q1", option_id="y", by="ann")
    assert await session.route.answer(answer) == error
    assert session.of(Answered) == []
    await session.route.close("agent_released")
