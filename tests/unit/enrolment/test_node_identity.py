from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relaybroker.config.paths import Paths, paths_of
from relaybroker.config.settings import Flags, take_settings
from relaybroker.domain import inputs
from relaybroker.domain.state import State
from relaybroker.enrolment.node_identity import Node, NodeError, check_destination, hold_node, node_of
from relaybroker.node.assembly import open_vault

NODE = Node("node_1", "vm", "ws_1", "http://e:1")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return paths_of("desk", tmp_path / "state", {"XDG_DATA_HOME": str(tmp_path)}, ephemeral=False)


def used(node: Node) -> State:
    state = State()
    state.settings = inputs.Settings(
        node_id=node.node_id,
        node_name=node.name,
        workspace_id=node.workspace_id,
        base_url=node.base_url,
        version="",
        broker_name="desk",
    )
    return state


def settings(environ: dict[str, str] | None = None, **flags: Any) -> Any:
    return take_settings(Flags(**flags), environ or {}, Path("/p"))


# --- which node -------------------------------------------------------------------------------------------------------


def test_a_workspace_makes_another_node_of_the_same_directory(paths: Paths) -> None:
    """F042."""
    one = node_of(settings(), paths, workspace_id="ws_1", base_url="http://e")
    two = node_of(settings(), paths, workspace_id="ws_2", base_url="http://e")
    assert one.node_id != two.node_id
    assert one == node_of(settings(), paths, workspace_id="ws_1", base_url="http://e")


def test_a_pinned_node_takes_its_id_from_the_machine_file_byte_for_byte(paths: Paths) -> None:
    """I3."""
    paths.data.mkdir(parents=True)
    (paths.data / "machine-id").write_text(" my Own id\n")
    pinned = settings({"RELAY_NODE_TOKEN": "nt_live_x"})
    assert node_of(pinned, paths, workspace_id="", base_url="http://e").node_id == "my Own id"


def test_a_chosen_id_is_used_as_it_is_and_needs_no_machine_file(paths: Paths) -> None:
    chosen = settings({"RELAY_NODE_ID": "node_mine"})
    assert node_of(chosen, paths, workspace_id="ws", base_url="http://e").node_id == "node_mine"
    assert not paths.data.exists()


def test_a_chosen_id_is_taken_verbatim_and_a_blank_one_counts_as_none() -> None:
    """1.3: the engine compares it byte for byte."""
    assert settings({"RELAY_NODE_ID": " node mine "}).node_id == " node mine "
    assert settings({"RELAY_NODE_ID": " \n"}).node_id == ""


def test_a_workspace_id_with_the_separator_in_it_stops_the_start_with_a_message(paths: Paths) -> None:
    """1.1."""
    with pytest.raises(NodeError, match=r"U\+0000"):
        node_of(settings(), paths, workspace_id="ws\0", base_url="http://e")


def test_the_one_token_file_of_older_programs_is_never_read_and_goes_unless_the_operator_pins_a_token(
    paths: Paths,
) -> None:
    """1.6, I3."""
    paths.data.mkdir(parents=True)
    paths.former_node_token.write_text('{"token":"nt_live_stale"}')
    pinned = open_vault(settings({"RELAY_NODE_TOKEN": "nt_live_x"}), paths, NODE, "", State())
    assert pinned.token("node") == "nt_live_x"
    assert paths.former_node_token.exists()
    assert open_vault(settings(), paths, NODE, "", State()).token("node") is None
    assert not paths.former_node_token.exists()


def test_a_directory_that_is_gone_stops_the_start(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(NodeError, match="current directory"):
        node_of(settings(), paths, workspace_id="ws", base_url="http://e")
    monkeypatch.chdir("/")


def test_one_process_at_a_time_is_a_node(paths: Paths) -> None:
    held = hold_node(NODE, paths)
    with pytest.raises(NodeError, match="already run by another process"):
        hold_node(NODE, paths)
    hold_node(NODE._replace(node_id="node_2"), paths).release()
    held.release()
    hold_node(NODE, paths).release()


# --- F135 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"workspace_id": "ws_2"}, {"base_url": "http://e:2"}, {"node_id": "node_2"}])
def test_a_state_of_another_destination_is_refused(change: dict[str, str]) -> None:
    """F135."""
    with pytest.raises(NodeError, match="wrong_destination"):
        check_destination(NODE._replace(**change), used(NODE), embedded=False)


def test_an_empty_state_fits_every_destination() -> None:
    check_destination(NODE, State(), embedded=False)
    check_destination(NODE, used(NODE), embedded=False)


def test_the_embedded_engine_may_change_its_port() -> None:
    check_destination(NODE._replace(base_url="http://e:2"), used(NODE), embedded=True)
    with pytest.raises(NodeError, match="workspace"):
        check_destination(NODE._replace(workspace_id="ws_2"), used(NODE), embedded=True)
