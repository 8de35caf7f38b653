"""The node provider of the PyPI SDK: everything it sees is printed as one JSON object."""

import asyncio
import json
import os

import httpx
from relay_sdk import Relay
from relay_sdk.node import NodeProvider

URL = os.environ["ENGINE_URL"]
made = httpx.post(f"{URL}/v1/workspaces", json={"name": "providers"}).json()["data"]
operator = {"Authorization": f"Bearer {made['api_key']}"}
enrolled = httpx.post(f"{URL}/v1/nodes", json={"name": "host-1"}, headers=operator).json()["data"]
seen = {}


async def total(given, context):
    said = await context.send_message(to="general", from_="calculator", text="counted")
    return {"sum": given["a"] + given["b"], "said": said["agent_name"]}


async def main():
    node = NodeProvider(
        base_url=URL, node_token=enrolled["token"], node_id=enrolled["id"], node_name="host-1", provider={"name": "tools"},
        capabilities={"sum": total},
    )  # fmt: skip
    serving = asyncio.create_task(node.serve())
    registered = await node.wait_registered()
    seen["registered"] = [[item["name"], item["accepted"]] for item in registered["accepted_capabilities"]]
    with Relay(api_key=made["api_key"], base_url=URL) as relay:
        as_ada = relay.as_agent((await asyncio.to_thread(relay.register_agent, "ada")).token)
        invoked = await asyncio.to_thread(as_ada.actions.invoke, "sum", {"a": 1, "b": 2})
        while True:
            now = await asyncio.to_thread(as_ada.actions.get_invocation, "sum", invoked["invocation_id"])
            if now["status"] == "completed":
                break
            await asyncio.sleep(0.01)
        seen["sum"] = now["output"]
        as_ada.client.close()
    await node.stop()
    await serving


asyncio.run(main())
print(json.dumps(seen))
