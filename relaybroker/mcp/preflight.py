"""Whether an agent's tools answer before its program is started: asked as the program will ask, with that agent's own token.

Source: spec/conversation.md section 3.
"""

from __future__ import annotations

import http.client
import json
from typing import NamedTuple
from urllib.parse import urlsplit

ANSWER_S = 5.0
"""The tools answer within this time, or the program is not started."""
_ASKED = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}


class Preflight(NamedTuple):
    """What is asked: the local API as the agent reaches it, and the agent's token."""

    url: str
    token: str

    def failure(self) -> str:
        """Why the tools are not there; "" if they are. Blocks: call it in a thread."""
        target = urlsplit(self.url)
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=ANSWER_S)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        try:
            connection.request("POST", "/mcp", json.dumps(_ASKED), headers)
            response = connection.getresponse()
            status, body = response.status, response.read()
            tools = json.loads(body)["result"]["tools"] if status == http.HTTPStatus.OK else []
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
            return f"{self.url}/mcp does not answer tools/list: {error!r}"[:300]
        finally:
            connection.close()
        return "" if tools else f"{self.url}/mcp answers tools/list with {status}"
