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
            "An acknowledgement covers only what was typed, was settled with a reason, or was taken into this broker's custody.",
        ),
        Guarantee("D2", "Acknowledgements of an agent never go back, and none is sent before its base is known."),
        Guarantee(
            "D3",
            "The cursor moves one step at a time, by taking over a base, or over a range that is declared lost with an event.",
        ),
        Guarantee("D4", "A message without a place in the sequence never moves the cursor."),
        Guarantee(
            "D5", "A message is typed at most once; one that may have been is settled by the policy in doubt, visibly."
        ),
        Guarantee("D6", "A copy that fills the next place advances the cursor and is not typed."),
        Guarantee("D7", "Messages with and without a place never count as copies of each other."),
        Guarantee("D8", "An agent's messages are typed in their order."),
        Guarantee(
            "D9",
            "While the engine offers a message and the agent lives, or is gone for good, the message comes to an end in bounded time.",
        ),
        Guarantee(
            "D10",
            "Every payload is exactly one of: typed, only recorded, unknown; the last two never reach a terminal.",
        ),
        Guarantee("D11", "Reading a payload never fails, and never types the envelope instead of the message."),
        Guarantee("D12", "An agent of another id inherits nothing under an old name."),
        Guarantee("D13", "What waits has a reason and a deadline, and waits bounded in number and time."),
        Guarantee(
            "ONE-OWNER",
            "At every moment a message is kept by the engine, by a mailbox here, or as a dead letter: it is taken into custody before the "
            "engine forgets it, and given back only while the engine has it.",
        ),
        Guarantee(
            "D14",
            "The log folds to the state that the broker had, at every position, and offering everything again types nothing twice.",
        ),
        Guarantee(
            "D15", "With manual flush nothing is typed before the flush; the order and the hold survive a restart."
        ),
    ),
    "The node link": (
        Guarantee("N1", "The first frame of every connection is `node.register`."),
        Guarantee("N2", "Then follow the inventory, even when it is empty, and a heartbeat."),
        Guarantee("N3", "Requests have ids; answers are matched by id only, once."),
        Guarantee("N4", "Every registration request comes to one of its ends; nobody waits for ever."),
        Guarantee("N5", "Heartbeats carry the live load."),
        Guarantee("N6", "Heartbeats come in time, and a silent connection is left."),
        Guarantee("N7", "A command that was accepted is carried out or answered with an error."),
        Guarantee("N8", "Every queue is bounded, and nothing waits in a circle."),
        Guarantee("N9", "A stop ends within its limit, from every state."),
        Guarantee("N10", "Every frame that we send is one that the engine's own types accept."),
        Guarantee("N11", "Keys that we do not know change nothing."),
    ),
    "Identity and tokens": (
        Guarantee("I1", "The node id follows from machine, directory and workspace, and from nothing else."),
        Guarantee("I2", "A file that cannot be read never makes a new identity."),
        Guarantee("I3", "A pinned identity is never minted over, deleted or changed."),
        Guarantee("I4", "A token is used only for the node, workspace and engine that it was made for."),
        Guarantee("I5", "What is kept on disk is private and whole."),
        Guarantee("I6", "Tokens are replaced and connections tried within a budget."),
        Guarantee("I7", "No token is in a log, event, error or argument list."),
    ),
    "Agents": (
        Guarantee("R1", "The inventory is the live agents, always."),
        Guarantee("R2", "A spawn that failed leaves nothing at the engine."),
        Guarantee("R3", "A spawn of a name that is taken has no effect anywhere."),
        Guarantee("R4", "A late answer never ends a newer agent of the same name."),
        Guarantee("R5", "An agent leaves the engine before its next generation joins."),
        Guarantee("R6", "An agent that ended leaves the engine in bounded time."),
        Guarantee("R7", "The token of a live agent is replaced by a recorded event only."),
        Guarantee("R8", "Every way to release leaves the same state."),
        Guarantee("R9", "A refusal is final; only failures of transport go another way."),
    ),
    "Actions": (
        Guarantee("X1", "An invocation runs at most once, and its result is given until the engine has it."),
        Guarantee("X2", "A result is an output or an error, never both."),
        Guarantee("X3", "A spawn succeeded when the program of this very invocation lives."),
        Guarantee("X4", "`spawn:<harness>` runs that harness."),
        Guarantee("X5", "The ledger is bounded, and what runs has a deadline."),
        Guarantee("X6", "A sidecar's handlers are used only while it is the current one."),
    ),
    "Terminals": (
        Guarantee("W1", "Text and Enter of a message are typed together; a failed Enter is no delivery."),
        Guarantee("W2", "Nothing is typed before a program takes input, nor while a dialog is on its screen."),
        Guarantee("W3", "A message presses no key: no control byte of it but line feed and tab reaches a terminal."),
        Guarantee("W4", "Automatic answers never fire on what a message says."),
        Guarantee("W5", "Every message that was given to a terminal comes to one end."),
        Guarantee("W6", "A program that does not read holds up nobody else."),
        Guarantee("W7", "Whatever bytes a program prints, its reader lives."),
        Guarantee("W8", "A release gives a program its grace, and leaves no process behind."),
    ),
    "The log": (
        Guarantee("LOG-FIRST", "Nothing leaves before the event that causes it is on disk."),
        Guarantee(
            "TYPED-ONCE",
            "`kill -9` of the broker at any moment: no agent dies, nothing is lost, nothing is typed twice.",
        ),
        Guarantee("KEEP-BYTES", "A damaged log is refused loudly, and not a byte of it is changed."),
    ),
    "Agents that answer": (
        Guarantee(
            "OWN-SCOPE",
            "An agent's token opens the routes of one table and nothing else, acts as that agent only, and only while its registration "
            "lives.",
        ),
        Guarantee(
            "ANSWERS-ONCE",
            "What an agent sends is stored before it is answered, is published once as that agent, and is said to be published only when "
            "it is.",
        ),
        Guarantee(
            "FETCHED-ONCE",
            "What an agent fetches is not typed any more; what did not reach it whole waits as before, or says that it may have.",
        ),
        Guarantee(
            "TRUE-END",
            "An agent whose message to somebody ends undelivered hears of it once, with the reason; what an agent has read is not typed "
            "to it.",
        ),
        Guarantee(
            "TRUE-HINT",
            "The hint above a message names what this agent has, its tools or the command; no option by which a program gets its tools "
            "holds a token.",
        ),
    ),
}

NOT_PROMISED = """
* If the **PTY host** itself is killed while a message is with the terminal, nobody can know whether it was typed. Such a delivery is *in
  doubt* and settled by `RELAYBROKER_IN_DOUBT`: `ask` (a dead letter for a person), `at_least_once`, `at_most_once`.
* "Typed" means that body and Enter were written to the terminal, and that it reacted as the evidence says. What a program does with it
  is its own business.
* A message that is acknowledged because it was taken into custody is marked as read at the engine before the agent has read it. What
  becomes of it is said here: events, `why`, dead letters.
* What the engine forgets before it has offered it (its mailbox has a bound and a life) never comes here; a hole in the sequence says so.
* A disk that loses what it confirmed (fsync) is found by the log's high-water mark and refused; it cannot be repaired.
"""
