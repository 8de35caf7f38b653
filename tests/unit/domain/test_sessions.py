"""A program's own sessions (local-api.md section 5.3; F114)."""

from __future__ import annotations

import uuid

import pytest

from relaybroker.agents.harness import harness_of
from relaybroker.domain import inputs, sessions
from relaybroker.domain.errors import InvalidRequest
from relaybroker.domain.inputs import RestartPolicy
from tests.unit.domain.test_restarts import dies, starts
from tests.world import World

ID = "0199a213-81c0-7800-8aa1-bbab2a035a53"
FRESH = "0123456789abcdef0123456789abcdef"
NEW = "01234567-89ab-4def-8123-456789abcdef"


def chosen(command: str, wanted: str = "", harness: str = "") -> sessions.Chosen:
    argv = tuple(command.split())
    return sessions.choose(argv, harness_of(argv, harness).session, wanted=wanted, fresh=FRESH)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("claude --add-dir a b", f"claude --resume {ID} --add-dir a b"),
        ("npx claude --allowedTools Bash Edit", f"npx claude --resume {ID} --allowedTools Bash Edit"),
        ("codex -i a.png b.png", f"codex resume {ID} -i a.png b.png"),
        ("codex --add-dir a fix it", f"codex resume {ID} --add-dir a fix it"),
        ("gemini --allowed-tools a b", f"gemini --resume {ID} --allowed-tools a b"),
        ("opencode --cors a b", f"opencode --session {ID} --cors a b"),
        ("qwen --allowed-tools a b", f"qwen --resume {ID} --allowed-tools a b"),
        ("copilot --allow-tool a b", f"copilot --resume={ID} --allow-tool a b"),
        ("pi @a.md b", f"pi --session {ID} @a.md b"),
        ("cline --zen", f"cline --id {ID} --zen"),
    ],
)
def test_the_words_that_resume_stand_where_the_program_reads_them(given, wanted):
    """F114: before every option that would take them for values of its own."""
    assert chosen(given, ID) == sessions.Chosen(tuple(wanted.split()), ID)


@pytest.mark.parametrize("command", ["my-agent --fast", "bash -lc claude"])
def test_a_program_that_is_not_in_sight_is_given_none(command):
    assert chosen(command, harness="claude") == sessions.Chosen(tuple(command.split()))
    with pytest.raises(InvalidRequest, match="cannot be seen"):
        chosen(command, ID, "claude")
    own = f"my-agent --resume {ID}"
    assert chosen(own, harness="claude") == sessions.Chosen(tuple(own.split()), ID)


def test_a_program_that_takes_the_id_of_a_new_session_is_given_one():
    assert chosen("claude --model opus") == sessions.Chosen(("claude", "--session-id", NEW, "--model", "opus"), NEW)
    assert uuid.UUID(NEW).version == 4
    assert chosen("codex") == sessions.Chosen(("codex",)), "it makes its ids itself"


@pytest.mark.parametrize(
    "command",
    [
        f"claude --session-id {ID}",
        f"claude -r {ID}",
        f"claude --resume={ID}",
        f"codex resume {ID}",
        f"opencode -s {ID}",
    ],
)
def test_a_session_in_the_arguments_is_taken_over_as_it_stands(command):
    assert chosen(command) == chosen(command, ID) == sessions.Chosen(tuple(command.split()), ID)


@pytest.mark.parametrize(
    "command", ["claude --continue", "claude --resume", f"claude --fork-session --resume {ID}", "codex resume --last"]
)
def test_a_session_that_the_arguments_choose_without_its_id_is_left_to_the_program(command):
    assert chosen(command) == sessions.Chosen(tuple(command.split()))
    with pytest.raises(InvalidRequest, match="choose a session already"):
        chosen(command, ID)


@pytest.mark.parametrize("command", ["bash", "aider", "cat -u"])
def test_a_program_without_sessions_cannot_be_asked_for_one(command):
    """A session that would be echoed and not resumed is refused by name."""
    assert chosen(command) == sessions.Chosen(tuple(command.split()))
    with pytest.raises(InvalidRequest, match="has no sessions") as error:
        chosen(command, ID)
    assert error.value.extra == {"field": "session_id"}


def test_the_session_that_is_answered_is_the_one_on_the_command_line(world: World):
    world.broker._harness_of = harness_of
    world.spawn("w1", cli="claude")
    world.spawn("w2", cli="codex", session_ref=ID)
    first, second = starts(world)
    new = first.argv[2]
    assert first.argv == ("claude", "--session-id", new)
    assert second.argv == ("codex", "resume", ID)
    spawned = {frame["name"]: frame["sessionId"] for frame in world.notified if frame["kind"] == "agent_spawned"}
    assert spawned == {"w1": new, "w2": ID}
    assert [frame["session_ref"] for frame in world.sent("agent.register")] == [new, ID]
    world.assert_fold_is_live()


@pytest.mark.parametrize(("typed", "form"), [(True, "--resume"), (False, "--session-id")])
def test_a_program_that_is_started_again_goes_on_with_its_session(world: World, typed: bool, form: str):
    world.broker._harness_of = harness_of
    world.spawn("w1", cli="claude", restart=RestartPolicy(cooldown_s=1.0))
    if typed:
        world.deliver("w1", 1)
    world.advance(1)
    dies(world, "w1")
    world.advance(30)
    first, second = starts(world)
    assert second.argv == ("claude", form, first.argv[2])
    world.assert_fold_is_live()


def test_a_program_that_does_not_get_ready_is_given_its_session_the_other_way(world: World):
    """Nobody but the program knows whether it had begun to write its session down."""
    world.broker._harness_of = harness_of
    world.spawn("w1", cli="claude", restart=RestartPolicy(cooldown_s=1.0))
    world.deliver("w1", 1)
    world.advance(1)
    world.auto_ready = False
    forms = []
    for _ in range(3):
        dies(world, "w1")
        world.advance(10)
        forms.append(starts(world)[-1].argv[1])
    assert forms == ["--resume", "--session-id", "--resume"]


def test_a_session_that_was_asked_for_is_never_begun_anew(world: World):
    world.broker._harness_of = harness_of
    world.spawn("w1", cli="claude", session_ref=ID, restart=RestartPolicy(cooldown_s=1.0))
    world.auto_ready = False
    for _ in range(3):
        dies(world, "w1")
        world.advance(10)
    assert {start.argv for start in starts(world)} == {("claude", "--resume", ID)}


def test_a_spawn_whose_session_cannot_be_resumed_changes_nothing(world: World):
    world.tell(inputs.SpawnRequested(request_id="r", spec=inputs.SpawnSpec(name="w1", cli="cat", session_ref=ID)))
    answer = world.replies["r"]
    assert (answer.status, answer.body["code"], answer.body["field"]) == (400, "invalid_field", "session_id")
    assert world.broker.state.registrations == {}
