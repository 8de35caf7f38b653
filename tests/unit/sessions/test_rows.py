"""What programs write: an object of JSON is read, and nothing else ends the reader."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaybroker.adapters.sessions.rows import Rows, append, read_row
from relaybroker.domain.decoding import MAX_DEPTH

DEEP = [b'{"a":' * depth + b"1" + b"}" * depth for depth in (MAX_DEPTH + 1, 3_000, 100_000)]
UNREADABLE = [
    *DEEP,
    b'{"a":' * 100_000,
    b"[" * 100_000,
    b'{"a":' + b"9" * 10_000 + b"}",
    b"\xff{}",
    b"",
    b"nothing",
    b"[1]",
    b"null",
]


@pytest.mark.parametrize("written", UNREADABLE, ids=lambda written: f"{written[:12]!r} {len(written)}")
def test_what_is_no_row_is_none(written):
    """Deep, large or broken: a program writes it, or a model through its program (what a tool is called with)."""
    assert read_row(written) is None


@given(st.binary(max_size=200))
def test_no_bytes_end_the_reader(written):
    row = read_row(written)
    assert row is None or isinstance(row, dict)


@given(
    st.dictionaries(
        st.text(), st.recursive(st.none() | st.integers(-(2**63), 2**63) | st.text(), st.lists, max_leaves=20)
    )
)
def test_an_object_is_read_as_it_was_written(row):
    assert read_row(json.dumps(row)) == row


def test_rows_behind_an_unreadable_one_are_read(tmp_path):
    path = tmp_path / "transcript.jsonl"
    append(path, {"number": 1})
    with path.open("ab") as file:
        file.write(b"\n".join((b"", *DEEP, b"")))
    append(path, {"number": 2})
    assert [row["number"] for _, row in Rows(path).new()] == [1, 2]
