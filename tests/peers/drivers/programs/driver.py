"""Every public method of AgentRelayClient and AgentRelay, called once against a broker that this program starts."""

import asyncio
import inspect
import json
import os
from typing import Any

from agent_relay.client import AgentRelayClient
from agent_relay.relay import Agent, AgentRelay

results: dict[str, Any] = {}
FOLDER = os.environ["FOLDER"]


async def call(method, run):
    try:
        results[method] = {"answer": await run()}
    except Exception as error:  # noqa: BLE001 - whatever a method raises is its outcome
        results[method] = {"code": getattr(error, "code", type(error).__name__), "message": str(error)}


async def until(holds, seconds=15.0):
    deadline = asyncio.get_running_loop().time() + seconds
    while not (answer := holds()):
        if asyncio.get_running_loop().time() > deadline:
            raise TimeoutError
        await asyncio.sleep(0.02)
    return answer


async def low():
    client = await AgentRelayClient.spawn(
        binary_path=os.environ["BROKER"], binary_args=["--persist", "--state-dir", f"{FOLDER}/state"], cwd=FOLDER
    )
    results["AgentRelayClient.spawn"] = {"answer": type(client.workspace_key).__name__}
    results["AgentRelayClient.broker_pid"] = {"answer": type(client.broker_pid).__name__}
    heard = []
    unhear = client.on_event(heard.append)
    results["AgentRelayClient.on_event"] = {"answer": callable(unhear)}

    async def named(coroutine, *keys):
        answer = await coroutine
        return {key: answer[key] for key in keys} if keys else answer

    await call("AgentRelayClient.get_session", lambda: named(client.get_session(), "protocol_version"))
    await call("AgentRelayClient.health_check", lambda: named(client.health_check(), "service"))
    await call("AgentRelayClient.renew_lease", lambda: named(client.renew_lease(), "renewed"))
    await call("AgentRelayClient.preflight_agents", lambda: client.preflight_agents([{"name": "a", "cli": "cat"}]))
    await call("AgentRelayClient.spawn_pty", lambda: named(client.spawn_pty(name="cat1", cli="cat"), "name", "runtime"))
    await call("AgentRelayClient.spawn_provider", lambda: client.spawn_provider(name="open1", provider="opencode"))
    await call("AgentRelayClient.list_agents", lambda: names(client.list_agents()))
    await call("AgentRelayClient.send_input", lambda: named(client.send_input("cat1", "x\n"), "bytes_written"))
    await call("AgentRelayClient.resize_pty", lambda: client.resize_pty("cat1", 30, 90))
    await call("AgentRelayClient.send_message", lambda: named(client.send_message(to="cat1", text="hello"), "targets"))
    await call("AgentRelayClient.set_model", lambda: client.set_model("cat1", "opus"))
    await call("AgentRelayClient.subscribe_channels", lambda: client.subscribe_channels("cat1", ["lab"]))
    await call("AgentRelayClient.unsubscribe_channels", lambda: client.unsubscribe_channels("cat1", ["lab"]))
    await call("AgentRelayClient.get_status", lambda: named(client.get_status(), "agent_count"))
    await call("AgentRelayClient.get_metrics", lambda: agents_of(client.get_metrics("cat1")))
    await call("AgentRelayClient.get_crash_insights", lambda: named(client.get_crash_insights(), "health_score"))

    async def acknowledged():
        await until(lambda: client.query_events(kind="delivery_ack", name="cat1"))
        return True

    await call("AgentRelayClient.query_events", acknowledged)
    await call("AgentRelayClient.release", lambda: named(client.release("cat1", "done"), "name"))
    await call("AgentRelayClient.shutdown", client.shutdown)
    await call("AgentRelayClient.wait_for_exit", lambda: asyncio.wait_for(client.wait_for_exit(), 15))


async def names(coroutine):
    return sorted(one["name"] for one in await coroutine)


async def agents_of(coroutine):
    return [one["name"] for one in (await coroutine)["agents"]]


async def high():
    os.environ["AGENT_RELAY_BIN"] = os.environ["BROKER"]
    os.environ["BROKER_BINARY_PATH"] = os.environ["BROKER"]
    options = set(inspect.signature(AgentRelay.__init__).parameters)
    given = {"binary_path": os.environ["BROKER"], "cwd": f"{FOLDER}/high", "binary_args": []}
    os.makedirs(f"{FOLDER}/high", exist_ok=True)
    relay = AgentRelay(**{name: value for name, value in given.items() if name in options})
    agent = None

    async def ready():
        nonlocal agent
        agent = await relay.spawn_and_wait("eager", "cat", "", timeout_ms=20_000)
        return agent.status

    await call("AgentRelay.spawn_and_wait", ready)
    await call("AgentRelay.spawn", lambda: named_of(relay.spawn("second", "cat")))
    await call("AgentRelay.wait_for_agent_ready", lambda: named_of(relay.wait_for_agent_ready("second", 20_000)))
    await call("AgentRelay.list_agents", lambda: names_of(relay.list_agents()))
    await call("AgentRelay.get_status", lambda: count_of(relay.get_status()))
    await call("AgentRelay.preflight_agents", lambda: relay.preflight_agents([{"name": "a", "cli": "cat"}]))
    await call("AgentRelay.broadcast", lambda: kind_of(relay.broadcast("to all")))
    results["AgentRelay.workspace_key"] = {"answer": type(relay.workspace_key).__name__}
    results["AgentRelay.human"] = {"answer": relay.human("ann").name}
    results["AgentRelay.system"] = {"answer": relay.system().name}
    for name in ("name", "runtime", "channels", "status", "session_id"):
        results[f"Agent.{name}"] = {"answer": type(getattr(agent, name)).__name__}
    shown = []
    results["Agent.on_output"] = {"answer": callable(agent.on_output(shown.append))}
    await call("Agent.send_message", lambda: kind_of(agent.send_message(to="second", text="hi")))

    async def said():
        waiting = asyncio.create_task(relay.wait_for_agent_message("second", 20_000))
        await asyncio.sleep(0)
        await (await spawned("second")).send_message(to="eager", text="hello from second")
        return (await waiting).name

    async def spawned(name):
        return next(one for one in await relay.list_agents() if one.name == name)

    await call("AgentRelay.wait_for_agent_message", said)
    await call("Agent.wait_for_ready", lambda: agent.wait_for_ready(5_000))
    await call("Agent.wait_for_idle", lambda: agent.wait_for_idle(200))

    async def ends():
        waiting = asyncio.create_task(relay.wait_for_any([agent], 20_000))
        await asyncio.sleep(0)
        await agent.release()
        event = await waiting
        return [event[0].name, event[1]]

    await call("AgentRelay.wait_for_any", ends)
    results["Agent.release"] = results["AgentRelay.wait_for_any"]
    await call("Agent.wait_for_exit", lambda: agent.wait_for_exit(100))
    await call("AgentRelay.shutdown", relay.shutdown)


async def named_of(coroutine):
    return (await coroutine).name


async def names_of(coroutine):
    return sorted(one.name for one in await coroutine)


async def count_of(coroutine):
    return (await coroutine)["agent_count"]


async def kind_of(coroutine):
    return type(await coroutine).__name__


async def main():
    await asyncio.wait_for(low(), 60)
    await asyncio.wait_for(high(), 100)
    known = [
        f"{kind.__name__}.{name}"
        for kind in (AgentRelayClient, AgentRelay, Agent)
        for name in vars(kind)
        if not name.startswith("_")
    ]
    print(json.dumps({"results": results, "known": known}))


asyncio.run(main())
