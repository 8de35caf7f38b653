"""What a door sees of a Claude Code: its socket, its registry, its transcript, and the hooks that it runs."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

PID = 4711


class ClaudePeer:
    """A session with an inbox. What is posted is kept in `frames`; the test says what of it the transcript shows."""

    def __init__(self, folder: Path) -> None:
        self.notes = folder / "notes.jsonl"
        self.config = folder / "it's a home" / ".claude"
        self.socket = folder / f"{PID}.sock"
        self.frames: list[dict[str, Any]] = []
        self.posted = asyncio.Event()
        self._server: asyncio.Server | None = None
        self.session = "first"
        (self.config / "sessions").mkdir(parents=True)
        (self.config / "projects" / "-work").mkdir(parents=True)
        self.register()

    @property
    def transcript(self) -> Path:
        return self.config / "projects" / "-work" / f"{self.session}.jsonl"

    def register(self, **other: Any) -> None:
        """Its entry in the registry."""
        entry = {
            "pid": PID, "version": "2.1.332", "peerProtocol": 1, "messagingSocketPath": str(self.socket), "status": "idle",
        } | other  # fmt: skip
        (self.config / "sessions" / f"{PID}.json").write_text(json.dumps(entry))

    def leave(self) -> None:
        """Its entry is taken away."""
        (self.config / "sessions" / f"{PID}.json").unlink()

    async def listen(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.socket)

    async def die(self) -> None:
        """Nobody listens any more; its files stay."""
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()
        self.socket.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.frames += [json.loads(line) for line in (await reader.read()).splitlines()]
        self.posted.set()
        writer.close()

    def shows(self, *rows: dict[str, Any], end: str = "\n") -> None:
        """Write rows into the transcript."""
        with self.transcript.open("a") as file:
            file.write("\n".join(json.dumps(row) for row in rows) + end)

    def hook(self, settings: str, event: str, *, socket: str | None = None) -> None:
        """Run the hooks of an event, as the program does."""
        told = {"session_id": self.session, "transcript_path": str(self.transcript), "hook_event_name": event}
        env = {
            "PATH": "/usr/bin:/bin", "CLAUDE_CODE_MESSAGING_TOKEN": "a-token",
            "CLAUDE_CODE_MESSAGING_SOCKET": str(self.socket) if socket is None else socket,
        }  # fmt: skip
        for group in json.loads(settings)["hooks"][event]:
            for hook in group["hooks"]:
                done = subprocess.run(
                    ["sh", "-c", hook["command"]],
                    input=json.dumps(told),
                    env=env,
                    capture_output=True,
                    text=True,
                    check=True,
                )
                assert done.stdout == done.stderr == ""


def user(identifier: str) -> dict[str, Any]:
    """A row that took a message as a prompt."""
    return {
        "type": "user",
        "message": {"role": "user", "content": "…"},
        "origin": {"kind": "peer", "msg_id": identifier},
    }


def folded(identifier: str) -> dict[str, Any]:
    """A row that took a message into a running turn."""
    origin = {"kind": "peer", "msg_id": identifier}
    return {"type": "attachment", "attachment": {"type": "queued_command", "prompt": "…", "origin": origin}}
