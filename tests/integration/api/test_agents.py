"""Routes about agents (local-api.md routes 5 to 7, 9, 14, 16; checklist 9 and 10)."""

from __future__ import annotations

import asyncio
import re

import pytest

from relaybroker.adapters.http.api import agents_routes
from relaybroker.domain import inputs


def spec_of(client):
    return next(item.spec for item in client.broker.offered if isinstance(item, inputs.SpawnRequested))


# --- spawn ----------------------------------------------------------------------------------------------------------------


async def test_a_spawn_is_answered_when_the_program_lives_with_the_fields_that_sdks_check(client):
    answer = await client.spawn("w1", channels=[], args=[])
    assert answer["success"] is True
    assert (answer["name"], answer["runtime"], answer["pid"]) == ("w1", "pty", 4711)
    assert isinstance(answer["sessionId"], str)
    assert answer["model"] is None
    assert answer["pre_registered"] is True
    assert answer["warning"] is None


async def test_every_field_of_a_spawn_reaches_the_core(client, tmp_path):
    await client.spawn(
        "w1",
        cli="cat -u",
        runtime=" PTY ",
        model="m/1:x",
        args=["-v"],
        task="do it",
        channels=["#Dev", "dev", " ops "],
        cwd=str(tmp_path),
        team="red",
        idleThresholdSecs=7,
        spawnMode="Interactive",
        skipRelayPrompt=True,
        sessionId="s-1",
        permissionMode="ask",
        rows=30,
        cols=100,
    )
    assert spec_of(client) == inputs.SpawnSpec(
        name="w1",
        cli="cat -u",
        args=("-v",),
        cwd=str(tmp_path),
        task="do it",
        channels=("Dev", "ops"),
        model="m/1:x",
        team="red",
        session_ref="s-1",
        idle_threshold_s=7.0,
        skip_relay_prompt=True,
        permission_mode="ask",
        rows=30,
        cols=100,
    )


async def test_variables_of_a_spawn_reach_the_core_by_name_only(client):
    """I7; ADR-0036."""
    config = {"command": "cat", "env": {"A": "from-config", "MY_KEY": "secret-1"}}
    await client.spawn("w1", cli=None, harnessConfig=config, env={"A": "from-request"}, harness=" default ")
    spec = spec_of(client)
    assert (spec.env_names, spec.env, spec.harness) == (("A", "MY_KEY"), {}, "default")
    assert client.broker.variables == {spec.env_ref: {"A": "from-request", "MY_KEY": "secret-1"}}
    assert "secret-1" not in repr(client.broker.offered)


async def test_variables_of_a_refused_spawn_are_forgotten(client):
    await client.spawn("w1")
    await client.refused("POST", "/api/spawn", {"name": "w1", "cli": "cat", "env": {"MY_KEY": "secret-1"}})
    assert client.broker.variables == {}


async def test_a_program_is_looked_for_where_the_agents_own_path_says(client, tmp_path):
    program = tmp_path / "my-own-agent"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    await client.spawn("w1", cli="my-own-agent", env={"PATH": str(tmp_path)})


async def test_null_means_absent_and_the_first_alias_that_is_present_wins(client):
    await client.spawn(
        "w1", cwd=None, args=None, model=None, restart_policy=None, idle_threshold_secs=None, idleThresholdSecs=3
    )
    assert spec_of(client).idle_threshold_s == 3.0
    assert spec_of(client).args == ()


@pytest.mark.parametrize("field", ["restart_policy", "restartPolicy"])
async def test_a_restart_policy_reaches_the_core_with_the_limits_that_are_not_said(client, field):
    await client.spawn("w1", **{field: {"max_restarts": 9, "cooldown_ms": 500}})
    assert spec_of(client).restart == inputs.RestartPolicy(
        enabled=True, max_restarts=9, cooldown_s=0.5, max_consecutive_failures=3
    )


@pytest.mark.parametrize(
    ("given", "exits"),
    [
        ({"spawn_mode": "task_exit"}, True),
        ({"spawnMode": " Single-Shot "}, True),
        ({"exit_after_task": True}, True),
        ({"spawn_mode": "interactive", "exitAfterTask": True}, True),
        ({"spawn_mode": ""}, False),
    ],
)
async def test_an_agent_for_one_task_is_asked_for_by_either_field(client, given, exits):
    await client.spawn("w1", task="say hello", **given)
    assert spec_of(client).exit_after_task is exits


async def test_an_agent_without_terminal_is_asked_for_by_transport(client, tmp_path):
    program = tmp_path / "opencode"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    await client.spawn("w1", cli=f"{program} --pure", transport="headless", args=["--x"])
    spec = spec_of(client)
    assert (spec.cli, spec.args, spec.doors) == (str(program), ("acp", "--pure", "--x"), ("acp",))


async def test_a_model_of_a_headless_opencode_is_refused_and_not_ignored(client, tmp_path):
    """B15."""
    program = tmp_path / "opencode"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    body = {"name": "w1", "cli": str(program), "transport": "headless", "model": "m"}
    answer = await client.refused("POST", "/api/spawn", body)
    assert (answer["statusCode"], answer["code"], answer["field"]) == (501, "not_implemented", "model")


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"cli": "cat"}, "invalid_transport"),
        ({"cli": "opencode", "doors": ["pty_paste"]}, "invalid_door"),
        ({"harness_config": {"command": "opencode"}}, "runtime_mismatch"),
    ],
)
async def test_what_cannot_be_headless_is_refused(client, given, code):
    answer = await client.refused("POST", "/api/spawn", {"name": "w1", "transport": "headless"} | given)
    assert (answer["statusCode"], answer["code"]) == (400, code)
    assert client.broker.offered == []


@pytest.mark.parametrize("doors", [["acp", "claude_inbox"], ["claude_inbox", "acp"], ["acp", "acp"]])
async def test_a_door_for_programs_without_terminal_stands_alone(client, doors):
    answer = await client.refused("POST", "/api/spawn", {"name": "w1", "cli": "cat", "doors": doors})
    assert (answer["statusCode"], answer["code"]) == (400, "invalid_door")


async def test_unknown_fields_are_ignored(client):
    await client.spawn("w1", from_the_future={"a": 1})


@pytest.mark.parametrize("field", ["idempotency_key", "idempotencyKey"])
async def test_the_same_key_again_starts_nothing_wherever_it_stands(client, field):
    """local-api 1.1: header or body; another body under the same key is a conflict; U10."""
    body = {"name": "w1", "cli": "cat", "env": {"A": "b"}}
    first = await client.ask("POST", "/api/spawn", body | {field: "k-1"})
    again = await client.ask("POST", "/api/spawn", body, Idempotency_Key="k-1")
    assert (again[0], again[1]) == (200, first[1] | {"replayed": True})
    assert list(client.broker.variables) == [spec_of(client).env_ref], "what was kept for the second one is gone"
    answer = await client.refused("POST", "/api/spawn", {"name": "w2", "cli": "cat"}, Idempotency_Key="k-1")
    assert (answer["statusCode"], answer["code"], answer["name"]) == (409, "idempotency_conflict", "w2")


@pytest.mark.parametrize("name", ["harness_config", "harnessConfig", "harness_plan", "harnessPlan"])
async def test_a_harness_configuration_goes_by_four_names(client, name):
    await client.spawn("w1", **{name: {"command": "cat", "args": ["-u"]}})
    assert (spec_of(client).cli, spec_of(client).args) == ("cat", ("-u",))


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("name", "", "missing_field"),
        ("name", "a/b", "invalid_name"),
        ("name", "..", "invalid_name"),
        ("name", "broker", "invalid_name"),
        ("name", "Desk", "invalid_name"),
        ("name", 3, "invalid_field"),
        ("cli", "", "invalid_field"),
        ("cli", "  ", "invalid_field"),
        ("cli", "cat 'open", "invalid_field"),
        ("cli", "cat\x00", "invalid_field"),
        ("cli", "no-such-program-here", "cli_not_found"),
        ("cli", "/no/such/program", "cli_not_found"),
        ("cli", "/etc/passwd", "cli_not_found"),
        ("cwd", "/no/such/directory", "invalid_cwd"),
        ("cwd", "/etc/passwd", "invalid_cwd"),
        ("args", "one", "invalid_field"),
        ("args", [1], "invalid_field"),
        ("channels", ["a", 1], "invalid_field"),
        ("channels", ["a/b"], "invalid_field"),
        ("model", "x; rm", "invalid_model"),
        ("model", "-x", "invalid_model"),
        ("session_id", "--resume", "invalid_field"),
        ("task", 1, "invalid_field"),
        ("transport", "smoke", "invalid_transport"),
        ("spawn_mode", "sometimes", "invalid_spawn_mode"),
        ("permission_mode", "root", "invalid_field"),
        ("idle_threshold_secs", -1, "invalid_field"),
        ("idle_threshold_secs", 1.5, "invalid_field"),
        ("idle_threshold_secs", True, "invalid_field"),
        ("idle_threshold_secs", 10**30, "invalid_field"),
        ("exit_after_task", "yes", "invalid_field"),
        ("restart_policy", "always", "invalid_field"),
        ("restart_policy", {"max_restarts": -1}, "invalid_restart_policy"),
        ("restart_policy", {"max_restarts": True}, "invalid_restart_policy"),
        ("restart_policy", {"enabled": "yes"}, "invalid_restart_policy"),
        ("restart_policy", {"cooldown_ms": 1.5}, "invalid_restart_policy"),
        ("restart_policy", {"maxRestarts": 3}, "invalid_restart_policy"),
        ("harness_id", "x", "harness_id_unsupported"),
        ("env", "A=b", "invalid_field"),
        ("env", {"A": 1}, "invalid_field"),
        ("env", {"A": "\x00"}, "invalid_field"),
        ("env", {"A=B": "c"}, "invalid_env"),
        ("env", {"": "c"}, "invalid_env"),
        ("env", {"RELAY_AGENT_NAME": "boss"}, "invalid_env"),
        ("env", {"RELAY_API_KEY": "rk_live_x"}, "invalid_env"),
        ("env", {"A": "x" * 70_000}, "invalid_env"),
        ("env", {f"A{n}": "" for n in range(300)}, "invalid_env"),
        ("harness", 1, "invalid_field"),
    ],
)
async def test_a_bad_field_is_a_400_before_the_engine_hears_of_it(client, field, value, code):
    answer = await client.refused("POST", "/api/spawn", {"name": "w1", "cli": "cat"} | {field: value})
    assert (answer["statusCode"], answer["code"]) == (400, code), answer
    assert "name" in answer
    assert client.broker.state.registrations == {}
    if code == "invalid_field":
        assert answer["field"] == field


async def test_a_taken_name_is_a_409_whatever_its_spelling(client):
    await client.spawn("w1")
    answer = await client.refused("POST", "/api/spawn", {"name": "W1", "cli": "cat"})
    assert (answer["statusCode"], answer["code"]) == (409, "agent_exists")
    assert answer["message"] == "agent 'W1' already exists"
    assert answer["name"] == "W1"


async def test_a_relative_cwd_is_one_of_the_broker(client, tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    await client.spawn("w1", cwd="sub")
    assert spec_of(client).cwd == str(tmp_path / "sub")


async def test_a_full_core_is_a_429_with_retry_after(client):
    client.broker.full = True
    body = {"name": "w1", "cli": "cat"}
    async with client.http.post(client.url + "/api/spawn", json=body, headers=client.headers) as response:
        answer = await response.json()
        assert (response.status, answer["code"], answer["retryable"]) == (429, "queue_full", True)
        assert response.headers["Retry-After"] == "1"


async def test_at_most_16_spawns_are_open_at_once(client):
    client.broker.engine_registers = False
    open_ones = [
        asyncio.create_task(client.refused("POST", "/api/spawn", {"name": f"w{n}", "cli": "cat"})) for n in range(16)
    ]
    await client.until(lambda: len(client.broker.offered) == 16, "16 open spawns")
    answer = await client.refused("POST", "/api/spawn", {"name": "one-more", "cli": "cat"})
    assert (answer["statusCode"], answer["code"]) == (429, "queue_full")
    await client.api.close()
    assert {answer["code"] for answer in await asyncio.gather(*open_ones)} == {"shutting_down"}


async def test_a_spawn_without_an_answer_in_time_is_a_504(client, monkeypatch):
    monkeypatch.setattr(agents_routes, "SPAWN_WAIT_S", 0.05)
    client.broker.engine_registers = False
    answer = await client.refused("POST", "/api/spawn", {"name": "w1", "cli": "cat"})
    assert (answer["statusCode"], answer["code"], answer["retryable"]) == (504, "request_timeout", True)


# --- list and release -----------------------------------------------------------------------------------------------------


async def test_agents_are_listed_by_name_with_the_fields_of_the_contract(client):
    await client.spawn("w2", channels=["dev"], team="red")
    await client.spawn("w1")
    status, body = await client.ask("GET", "/api/spawned")
    assert status == 200
    assert body["success"] is True
    assert [agent["name"] for agent in body["agents"]] == ["w1", "w2"]
    second = body["agents"][1]
    assert (second["runtime"], second["provider"], second["cli"], second["team"]) == ("pty", None, "cat", "red")
    assert (second["channels"], second["parent"], second["pid"], second["workerPid"]) == (["dev"], "Dashboard", 4711, 5)
    assert second["current_state"] in ("working", "idle", "blocked_on_send")
    assert second["last_activity_ms"] >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", second["last_activity_at"])
    assert second["context_budget_pct"] is None


async def test_a_release_ends_the_agent_and_an_unknown_one_is_gone_already(client):
    await client.spawn("w1")
    assert await client.ask("DELETE", "/api/spawned/w1", {"reason": "done"}) == (
        200,
        {"success": True, "name": "w1", "existed": True},
    )
    assert await client.ask("DELETE", "/api/spawned/w1") == (200, {"success": True, "name": "w1", "existed": False})
    assert (await client.ask("GET", "/api/spawned"))[1]["agents"] == []


async def test_a_release_takes_a_name_whatever_its_spelling(client):
    await client.spawn("w1")
    status, body = await client.ask("DELETE", "/api/spawned/W1")
    assert (status, body["existed"]) == (200, True)
    assert (await client.ask("GET", "/api/spawned"))[1]["agents"] == []


async def test_a_release_that_takes_long_goes_on_and_says_so(client, monkeypatch):
    monkeypatch.setattr(agents_routes, "RELEASE_WAIT_S", 0.02)
    await client.spawn("w1")
    monkeypatch.setattr(client.broker, "_carry_out", lambda effect: None)
    assert await client.ask("DELETE", "/api/spawned/w1") == (200, {"success": True, "name": "w1", "pending": True})


# --- the terminal ---------------------------------------------------------------------------------------------------------


async def test_the_screen_is_given_as_plain_text_or_ansi(client):
    await client.spawn("w1")
    for wanted, got in (("", "plain"), ("?format=", "plain"), ("?format=TEXT", "plain"), ("?format=ansi", "ansi")):
        status, body = await client.ask("GET", f"/api/spawned/w1/snapshot{wanted}")
        assert status == 200
        assert body == {"format": got, "rows": 24, "cols": 80, "cursor": [1, 3], "screen": "> \n"}
    answer = await client.refused("GET", "/api/spawned/w1/snapshot?format=pdf")
    assert (answer["statusCode"], answer["code"]) == (400, "invalid_format")


async def test_input_is_given_to_the_terminal_verbatim_and_counted_in_bytes(client):
    await client.spawn("w1")
    text = "grüß\x1b[A\r\n"
    status, body = await client.ask("POST", "/api/input/w1", {"data": text})
    assert (status, body) == (200, {"name": "w1", "bytes_written": len(text.encode())})
    assert client.broker.typed_raw == [text.encode()]


async def test_a_terminal_takes_a_new_size(client):
    await client.spawn("w1")
    assert await client.ask("POST", "/api/resize/w1", {"rows": 40, "cols": 120}) == (
        200,
        {"name": "w1", "rows": 40, "cols": 120},
    )
    answer = await client.refused("POST", "/api/resize/w1", {"rows": 0, "cols": 120})
    assert (answer["statusCode"], answer["code"]) == (400, "invalid_request")
    assert answer["message"] == "invalid_dimensions: rows and cols must be >= 1"
    for body in (
        {"rows": 70000, "cols": 1},
        {"rows": "1", "cols": 1},
        {"rows": 1.5, "cols": 1},
        {"rows": -1, "cols": 1},
    ):
        assert (await client.refused("POST", "/api/resize/w1", body))["code"] == "invalid_field"
    assert (await client.refused("POST", "/api/resize/w1", {"rows": 1}))["code"] == "missing_field"


TERMINAL = (
    ("GET", "/api/spawned/{}/snapshot", None),
    ("POST", "/api/input/{}", {"data": "x"}),
    ("POST", "/api/resize/{}", {"rows": 1, "cols": 1}),
)


@pytest.mark.parametrize(("method", "path", "body"), TERMINAL)
async def test_a_terminal_of_nobody_is_a_404(client, method, path, body):
    await client.spawn("w1")
    for name in ("nobody", "w", "%2e%2e%2fw1"):
        answer = await client.refused(method, path.format(name), body)
        assert (answer["statusCode"], answer["code"]) == (404, "agent_not_found")


@pytest.mark.parametrize(("method", "path", "body"), TERMINAL)
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        ("agent_not_found", 404, "agent_not_found"),
        ("worker_disappeared", 503, "worker_disappeared"),
        ("worker_timeout", 504, "worker_timeout"),
        ("queue_full", 429, "queue_full"),
    ],
)
async def test_what_the_pty_host_says_keeps_its_meaning(client, method, path, body, error, status, code):
    await client.spawn("w1")
    client.broker.host_error = error
    answer = await client.refused(method, path.format("w1"), body)
    assert (answer["statusCode"], answer["code"]) == (status, code)


async def test_a_lost_pty_host_is_a_503(client):
    await client.spawn("w1")
    client.broker.host_gone = True
    answer = await client.refused("GET", "/api/spawned/w1/snapshot")
    assert (answer["statusCode"], answer["code"]) == (503, "worker_disappeared")
