"""Any record survives its stored form, and any change of a stored row is noticed. About 5 seconds."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaybroker.adapters.eventstore.errors import CorruptEvent, UnknownTopic
from relaybroker.adapters.eventstore.mapper import GENESIS, Mapper, split_state
from relaybroker.domain.events import (
    REGISTRY,
    ActionReceived,
    FrameNoted,
    InventoryPublished,
    MailboxBased,
    Recorded,
)

MAPPER = Mapper(REGISTRY)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=10,
)
events = st.one_of(
    st.builds(FrameNoted, frame_type=text, detail=text),
    st.builds(ActionReceived, invocation_id=text, action=text, input=json_values, agent_name=text),
    st.builds(InventoryPublished, request_id=text, names=st.lists(text, max_size=5).map(tuple)),
    st.builds(MailboxBased, base=st.integers(0, 2**63 - 1), source=text),
)
records = st.builds(
    Recorded,
    stream=text,
    version=st.integers(1, 2**63 - 1),
    at=st.floats(0, 4e9),
    causation=text,
    correlation=text,
    event=events,
)


@given(st.lists(records, max_size=5))
def test_records_read_back_equal_and_linked(batch):
    chain, rows = GENESIS, []
    for record in batch:
        row, chain = MAPPER.to_stored(record, chain)
        rows.append(row)
    previous = GENESIS
    for position, (record, row) in enumerate(zip(batch, rows, strict=True), 1):
        assert MAPPER.to_recorded(row, position) == record
        previous = MAPPER.follows(previous, row, position)
    assert previous == chain


@given(records, st.data())
def test_a_state_with_any_byte_changed_cut_or_added_does_not_follow(record, data):
    row, _ = MAPPER.to_stored(record, GENESIS)
    place = data.draw(st.integers(0, len(row.state) - 1))
    damaged = data.draw(
        st.sampled_from(
            [
                row.state[:place],
                row.state[:place] + bytes([row.state[place] ^ data.draw(st.integers(1, 255))]) + row.state[place + 1 :],
                row.state[:place] + b" " + row.state[place:],
            ]
        )
    )
    with pytest.raises(CorruptEvent):
        MAPPER.follows(GENESIS, dataclasses.replace(row, state=damaged), 1)


@given(records, st.binary(max_size=200))
def test_no_bytes_make_the_mapper_fail_in_an_unnamed_way(record, state):
    row, _ = MAPPER.to_stored(record, GENESIS)
    for damaged in (state, row.state[:-1] + state, state + row.state):
        broken = dataclasses.replace(row, state=damaged)
        for read in (lambda row: MAPPER.to_recorded(row, 1), lambda row: MAPPER.follows(GENESIS, row, 1)):
            with contextlib.suppress(CorruptEvent, UnknownTopic):
                read(broken)


@given(records)
def test_a_row_names_its_chain_value_in_its_last_bytes(record):
    row, chain = MAPPER.to_stored(record, GENESIS)
    content, own = split_state(row.state)
    assert own == chain
    assert row.state.startswith(content)
