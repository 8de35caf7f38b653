"""Runs in a virtual environment of its own with the official Python client: `mcp_client.py MODE URL|COMMAND TOKEN`; prints JSON.

MODE is `legacy` or `auto`; a URL is reached over Streamable HTTP, anything else is started as a stdio server.
"""

import asyncio
import json
import os
import shlex
import sys


async def main(mode: str, where: str, token: str) -> None:
    from mcp.client.client import Client

    async with Client(transport(where, token), mode=mode) as client:
        tools = (await client.list_tools()).tools
        sent = await client.call_tool("send_dm", {"to": "planner", "text": f"hello over {mode}"})
        lost = await client.call_tool("send_dm", {"to": "plannr", "text": "x"})
        shown = await client.call_tool("list_agents", {})
        print(
            json.dumps(
                {
                    "server": client.server_info.name if client.server_info else None,
                    "version": client.protocol_version,
                    "tools": [tool.name for tool in tools],
                    "read_only": [tool.name for tool in tools if tool.annotations and tool.annotations.read_only_hint],
                    "sent": sent.structured_content,
                    "lost": [lost.is_error, lost.content[0].text],
                    "agents": [row["name"] for row in shown.structured_content["agents"]],
                }
            )
        )


def transport(where: str, token: str):
    if not where.startswith("http"):
        from mcp.client.stdio import StdioServerParameters, stdio_client

        command, *args = shlex.split(where)
        environment = {"RELAY_AGENT_TOKEN": token, "RELAYBROKER_URL": os.environ["RELAYBROKER_URL"]}
        return stdio_client(StdioServerParameters(command=command, args=args, env=environment))
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    session = httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=60)
    return streamable_http_client(where, http_client=session)


asyncio.run(main(*sys.argv[1:4]))
