"""The encoder and decoder of log lines."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomaflow_api.bounds import LAST_MOMENT_US
from nomaflow_api.v1.letter_words import LogCodec
from nomaflow_api.v1.log_lines import (
    CONTINUED,
    MAX_LINE_BYTES,
    MAX_UNPACKED_BYTES,
    SHARED,
    LogChunkError,
    LogLine,
    decode_line,
    encode_line,
    pack_lines,
    split_lines,
    split_message,
)

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


@given(message=ANY_TEXT, logger=ANY_TEXT, level=st.integers(0, 100), flags=st.integers(0, 3))
def test_a_line_round_trips(message: str, logger: str, level: int, flags: int) -> None:
    """Any text, lone surrogates and line feeds included, comes back, and a line stays one line of ASCII."""
    encoded = encode_line(level, 1_700_000_000_000_000, logger, message, flags)
    assert encoded.isascii()
    assert encoded.count(b"\n") == 1
    assert decode_line(encoded) == LogLine(
        level=level, at_us=1_700_000_000_000_000, logger=logger, message=message, flags=flags
    )


@given(raw=st.binary(max_size=200))
def test_any_bytes_survive(raw: bytes) -> None:
    """Bytes that are not UTF-8 come back as they were."""
    line = decode_line(encode_line(20, 1, "stdout", raw.decode("utf-8", "surrogateescape")))
    assert line.message_bytes == raw


@given(st.text(alphabet="aé€😀\ud800", min_size=7, max_size=50).map(lambda text: text * 9000))
def test_long_messages_are_cut_between_characters(message: str) -> None:
    """The pieces of a long message are within bounds and make it up again; all but the last are continued."""
    pieces, flags = zip(*split_message(message, SHARED), strict=True)
    assert "".join(pieces) == message
    assert flags == (*[SHARED | CONTINUED] * (len(pieces) - 1), SHARED)
    assert all(len(piece.encode("utf-8", "surrogatepass")) <= MAX_LINE_BYTES for piece in pieces)


def test_a_short_message_is_one_piece() -> None:
    """An empty message too is one line."""
    assert split_message("") == [("", 0)]


@pytest.mark.parametrize("count", [1, 3, 500])
def test_a_chunk_round_trips(count: int) -> None:
    """Lines come back in order, with count, times and levels of the chunk right."""
    lines = [encode_line(10 * (n % 7), 1000 + n, "a", f"line {n}", CONTINUED) for n in range(count)]
    packed = pack_lines(lines)
    decoded = list(map(decode_line, split_lines(packed.body, compressed=packed.codec is LogCodec.JSONL_ZLIB)))
    assert [line.message for line in decoded] == [f"line {n}" for n in range(count)]
    assert (packed.line_count, packed.first_at_us, packed.last_at_us) == (count, 1000, 1000 + count - 1)
    assert packed.levels == sum({1 << (n % 7) for n in range(count)})
    assert (packed.codec is LogCodec.JSONL_ZLIB) == (count > 3)


def test_levels_beyond_the_standard_ones() -> None:
    """Levels of 60 and more, and those between, set the bits that the contract names."""
    assert pack_lines([encode_line(level, 1, "a", "") for level in (5, 25, 99, 1000)]).levels == 0b1000101


@pytest.mark.parametrize(
    "body",
    [
        b"nonsense\n",
        b"[1,2]\n",
        b'{"a":1}\n',
        b'["x",1,"a","b"]\n',
        b'[Infinity,1,"a","b"]\n',
        b'[NaN,1,"a","b"]\n',
        b'[1e999,1,"a","b"]\n',
        b'[20,1e999,"a","b"]\n',
        b'[20,9223372036854775807,"a","b"]\n',
        b'[20,-1,"a","b"]\n',
        b"[20," + b"9" * 5000 + b',"a","b"]\n',
        b"[" * 100_000 + b"\n",
        b'[20,1,"a",' + b"[" * 100_000 + b"]" * 100_000 + b"]\n",
        b'[20,1,"a",null]\n',
        b'[20,1,"a","\\x"]\n',
        b'[20,1,"a","\xff"]\n',
        b'[20,1,"a","\x1b[0m"]\n',
        b'[20,1,"a","b",2147483648000]\n',
        b'[20,1,"a","b"] x\n',
        b'[20,1,"a","' + b"\\" * 100_001 + b'"]\n',
    ],
)
def test_what_is_no_line_is_refused(body: bytes) -> None:
    """A body that is not lines gives an error that shows it."""
    with pytest.raises(LogChunkError, match="expected a log line"):
        list(map(decode_line, split_lines(body, compressed=False)))


def test_a_bomb_is_refused() -> None:
    """A body that would unpack to more than the bound is refused, without being unpacked."""
    with pytest.raises(LogChunkError, match="more than"):
        split_lines(zlib.compress(b"x" * (MAX_UNPACKED_BYTES + 1)), compressed=True)
    with pytest.raises(LogChunkError, match="zlib"):
        split_lines(b"not zlib", compressed=True)


def test_a_clock_that_somebody_replaced_makes_no_bad_line() -> None:
    """A time before 1970 or after 9999 is kept as the nearest one that has a date."""
    assert decode_line(encode_line(20, -5, "a", "b")).at_us == 0
    assert decode_line(encode_line(20, 2**62, "a", "b")).at_us == LAST_MOMENT_US
