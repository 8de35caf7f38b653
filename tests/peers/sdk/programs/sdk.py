"""The PyPI SDK against an engine: everything it sees is printed as one JSON object."""

import asyncio
import json
import os

import httpx
from relay_sdk import Relay, WsClient

URL = os.environ["ENGINE_URL"]
KINDS = ("message.created", "dm.received", "thread.reply", "message.reacted")


async def main():
    made = httpx.post(f"{URL}/v1/workspaces", json={"name": "peers"}).json()["data"]
    seen = {}
    with Relay(api_key=made["api_key"], base_url=URL) as relay:
        ada, bob = relay.register_agent("ada"), relay.register_agent("bob")
        seen["status"] = ada.status
        as_ada, as_bob = relay.as_agent(ada.token), relay.as_agent(bob.token)
        arrived = {kind: asyncio.Event() for kind in KINDS}
        events = {}

        def receive(kind, event):
            events[kind] = event
            arrived[kind].set()

        socket = WsClient(token=ada.token, base_url=URL)
        for kind in KINDS:
            socket.on(kind, lambda event, kind=kind: receive(kind, event))
        socket.subscribe(["general"])
        registered = asyncio.Event()
        socket.on("reply", lambda _reply: registered.set())
        task = asyncio.create_task(socket.connect())
        async with asyncio.timeout(30):
            await registered.wait()
        rest = asyncio.to_thread
        sent = await rest(as_bob.dm, "ada", "direct", "steer")
        message = await rest(as_bob.send, "#general", "hello @ada")
        reply = await rest(as_bob.reply, message.id, "reply")
        await rest(as_bob.react, message.id, "👍")
        async with asyncio.timeout(30):
            for event in arrived.values():
                await event.wait()
            while await rest(as_ada.deliveries):
                await asyncio.sleep(0.02)
        seen["events"] = sorted(events)
        seen["dm"] = events["dm.received"]
        seen["thread"] = [item.id == reply.id for item in (await rest(as_ada.thread, message.id)).replies]
        seen["texts"] = [item.text for item in await rest(as_ada.messages, "general")]
        seen["conversation"] = [item.text for item in await rest(as_ada.dms.messages, sent["conversation_id"])]
        seen["reactions"] = [(item.emoji, item.count) for item in await rest(as_ada.reactions, message.id)]
        await rest(as_bob.mark_read, message.id)
        seen["readers"] = sorted(item.agent_name for item in await rest(as_ada.readers, message.id))
        seen["read_status"] = sorted(item.agent_name for item in await rest(as_ada.read_status, "general"))
        seen["members"] = sorted(item.agent_name for item in await rest(as_ada.channels.members, "general"))
        inbox = await rest(as_ada.inbox)
        seen["unread"] = [len(inbox.unread_channels), len(inbox.unread_dms)]
        seen["nodes"] = sorted(node.name for node in await rest(relay.nodes.list))
        fresh = await rest(relay.agents.rotate_token, "bob")
        seen["rotated"] = fresh.token != bob.token
        socket.disconnect()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for client in (as_ada, as_bob):
            client.client.close()
    print(json.dumps(seen))


asyncio.run(main())
