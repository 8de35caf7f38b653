"""What the broker promises, and what it does not: the one list behind docs/guarantees.md.

A promise is kept by the tests that name its id in their docstrings; the page lists them, and a test checks that none is without.
The ids are those of spec/node-protocol.md section 9 and of failure-scenarios.md section 1 (LOG-FIRST, TYPED-ONCE).

Source: spec/architecture.md section 8.
"""

from __future__ import annotations

from typing import NamedTuple


class Guarantee(NamedTuple):
    """A promise: the id that its tests name, and what it says."""

    id: str
    promise: str


GUARANTEES: dict[str, tuple[Guarantee, ...]] = {
    "Messages": (
        Guarantee(
            "D1",
            "An acknowledgement covers only messages that were typed, settled with a reason, or taken into this broker's custody.",
        ),
        Guarantee(
            "D2", "An agent's acknowledgements never go backwards, and none is sent before the agent's base is known."
        ),
        Guarantee(
            "D3",
            "The cursor moves one step at a time, by adopting a base, or across a range that an event declares lost.",
        ),
        Guarantee("D4", "A message without a place in the sequence never moves the cursor."),
        Guarantee(
            "D5", "A message is typed at most once. If it may have been typed, the in-doubt policy settles it, visibly."
        ),
        Guarantee("D6", "A duplicate in the next place advances the cursor and is not typed."),
        Guarantee("D7", "Messages with and without a place in the sequence never count as duplicates of each other."),
        Guarantee("D8", "An agent's messages are typed in order."),
        Guarantee(
            "D9",
            "While the engine offers a message, and the agent is alive or gone for good, the message reaches a "
            "terminal state in bounded time.",
        ),
        Guarantee(
            "D10",
            "Every payload is exactly one of: typed, only recorded, unknown; the last two never reach a terminal.",
        ),
        Guarantee("D11", "Reading a payload never fails, and never types the envelope instead of the message."),
        Guarantee("D12", "An agent with a new id inherits nothing from an earlier agent of the same name."),
        Guarantee(
            "D13", "Every waiting message has a reason and a deadline; the number and duration of waits are bounded."
        ),
        Guarantee(
            "ONE-OWNER",
            "At every moment the engine, a mailbox here, or the dead-letter list holds a message: it is taken "
            "into custody before the engine forgets it, and returned only while the engine still has it.",
        ),
        Guarantee(
            "D14",
            "At every position the log folds to the state that the broker had, and offering everything again types nothing twice.",
        ),
        Guarantee("D15", "With manual flush nothing is typed before the flush; order and hold survive a restart."),
    ),
    "The node link": (
        Guarantee("N1", "The first frame of every connection is `node.register`."),
        Guarantee("N2", "The inventory (even if empty) and a heartbeat follow."),
        Guarantee("N3", "Requests have ids; an answer is matched by id alone, and only once."),
        Guarantee("N4", "Every registration request reaches one of its outcomes; nobody waits forever."),
        Guarantee("N5", "Heartbeats carry the live load."),
        Guarantee("N6", "Heartbeats are sent on time, and a silent connection is closed."),
        Guarantee("N7", "An accepted command is carried out or answered with an error."),
        Guarantee("N8", "Every queue is bounded, and nothing deadlocks."),
        Guarantee("N9", "A stop ends within its limit, from every state."),
        Guarantee("N10", "The engine's own types accept every frame that we send."),
        Guarantee("N11", "Unknown keys change nothing."),
    ),
    "Identity and tokens": (
        Guarantee("I1", "The node id depends on machine, directory and workspace, and on nothing else."),
        Guarantee("I2", "An unreadable file never leads to a new identity."),
        Guarantee("I3", "A pinned identity is never replaced, deleted or changed."),
        Guarantee("I4", "A token is used only for the node, workspace and engine it was minted for."),
        Guarantee("I5", "Files on disk are private and never half-written."),
        Guarantee("I6", "Token replacement and connection attempts stay within a budget."),
        Guarantee("I7", "No token is in a log, event, error or argument list."),
    ),
    "Agents": (
        Guarantee("R1", "The inventory always lists exactly the live agents."),
        Guarantee("R2", "A failed spawn leaves nothing at the engine."),
        Guarantee("R3", "Spawning a taken name has no effect anywhere."),
        Guarantee("R4", "A late answer never ends a newer agent of the same name."),
        Guarantee("R5", "An agent leaves the engine before its next generation joins."),
        Guarantee("R6", "An agent that has ended leaves the engine in bounded time."),
        Guarantee("R7", "A live agent's token is replaced only with a recorded event."),
        Guarantee("R8", "Every way of releasing an agent leaves the same state."),
        Guarantee("R9", "A refusal is final; only transport failures are retried another way."),
    ),
    "Actions": (
        Guarantee("X1", "An invocation runs at most once, and its result is repeated until the engine has it."),
        Guarantee("X2", "A result is an output or an error, never both."),
        Guarantee("X3", "A spawn succeeds only if the program of that very invocation is alive."),
        Guarantee("X4", "`spawn:<harness>` runs that harness."),
        Guarantee("X5", "The ledger is bounded, and every running action has a deadline."),
        Guarantee("X6", "A sidecar's handlers are used only while it is the current one."),
    ),
    "Terminals": (
        Guarantee("W1", "A message's text and Enter are typed together; if Enter fails, the message is not delivered."),
        Guarantee("W2", "Nothing is typed before a program accepts input, nor while a dialog is on its screen."),
        Guarantee("W3", "A message presses no key: of its control bytes only line feed and tab reach a terminal."),
        Guarantee("W4", "The text of a message never triggers an automatic answer."),
        Guarantee("W5", "Every message given to a terminal reaches exactly one outcome."),
        Guarantee("W6", "A program that does not read its input delays no other program."),
        Guarantee("W7", "No output of a program can crash its reader."),
        Guarantee("W8", "A release gives the program its grace period and leaves no process behind."),
    ),
    "The log": (
        Guarantee(
            "LOG-FIRST",
            "Nothing leaves the machine before the event that causes it is on disk; nothing is typed before it is written.",
        ),
        Guarantee(
            "TYPED-ONCE",
            "`kill -9` of the broker at any moment: no agent dies, nothing is lost, nothing is typed twice.",
        ),
        Guarantee(
            "LOOKED-UP",
            "What a program may have taken through a door of its own is looked up in the program's records before any policy settles it. "
            "What they prove absent is handed over again, in its place.",
        ),
        Guarantee("KEEP-BYTES", "A damaged log is refused with an error, and not a byte of it is changed."),
    ),
    "Agents that answer": (
        Guarantee(
            "OWN-SCOPE",
            "An agent's token opens the routes of one table and nothing else, acts as that agent only, and only while its registration "
            "lives.",
        ),
        Guarantee(
            "ANSWERS-ONCE",
            "An agent's message is stored before the agent gets an answer, is published once under its name, "
            "and is reported as published only once it is.",
        ),
        Guarantee(
            "FETCHED-ONCE",
            "A message that an agent fetched is no longer typed. If the answer did not reach it completely, the "
            "message waits as before, or is marked as possibly received.",
        ),
        Guarantee(
            "LOCAL-FIRST",
            "While the engine is away, agents of one broker get each other's direct messages at once; each is typed "
            "once, in order, and published once.",
        ),
        Guarantee(
            "TRUE-END",
            "An agent whose direct message ends undelivered is told once, with the reason. A message that an "
            "agent has already read is not typed to it.",
        ),
        Guarantee(
            "TRUE-HINT",
            "The hint above a message names what this agent really has: its tools, or the command. No option "
            "that gives a program its tools contains a token.",
        ),
    ),
}

NOT_PROMISED = """
* If the **PTY host** itself is killed while a message is in the terminal, nobody can know whether it was typed. Such a delivery is
  *in doubt*, and `RELAYBROKER_IN_DOUBT` settles it: `ask` (a dead letter for a person), `at_least_once` or `at_most_once`.
  Through a door of the program's own it can often be known: its records are looked up first (docs/doors.md).
* After a **crash of the machine** the log may lack its last moments. Messages that were open, or posted before the next start, are typed
  with `possible-duplicate`, whether they had been typed or not. Nothing that was acknowledged, answered or published is lost.
* "Typed" means that body and Enter were written to the terminal, and that it reacted as the evidence says. What a program does with
  the text is its own business.
* A message acknowledged on being taken into custody is marked as read at the engine before the agent has read it. Its fate is
  reported here: in events, `why` and dead letters.
* A message that the engine forgets before offering it (its mailbox is limited in size and time) never arrives here; a hole in the
  sequence shows it.
* If a disk loses data it had confirmed (fsync), the log's high-water mark reveals it and the log is refused; it cannot be repaired.
"""
