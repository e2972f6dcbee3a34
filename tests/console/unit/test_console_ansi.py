"""The text of log lines: colours become classes, everything else that steers a terminal becomes a sign."""

from __future__ import annotations

import re
import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st

from nomaflow_console.assets import STATIC
from nomaflow_console.views.ansi import plain_text, shown_text

CLASSES = set(re.findall(r"\.([bdisuv]|[fg]\d) \{", (STATIC / "css" / "run.css").read_text(encoding="utf-8")))
"""Those of text that the style knows."""
_PIECES = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        ["\x1b[31m", "\x1b[0m", "\x1b[1;38;5;208m", "\x1b[48;2;1;2;3m", "\x1b]8;;http://x\x07", "\x1b[2K", "\r", "\n",
         "\x00", "\u202e", "\udcff", "\x1b", "\x9b31m"]
    ),
)  # fmt: skip


_MARKS = "\u202e\u202d\u061c\u2028\u2029\u2066"


def _steers(letter: str) -> bool:
    return (letter not in "\n\t" and unicodedata.category(letter) in ("Cc", "Cs")) or letter in _MARKS


@given(st.lists(_PIECES, max_size=12).map("".join))
@example("\x1b[" + "9" * 5000 + "m")
def test_no_text_of_a_program_steers_a_page(message: str) -> None:
    """Whatever is printed, what is shown has neither control characters nor classes that are not ours."""
    shown, written_over = shown_text(message)
    for text, classes in shown:
        assert text
        assert not any(_steers(letter) for letter in text), text
        assert set(classes.split()) <= CLASSES
    assert not any(_steers(letter) for text in written_over for letter in text)


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=200))
def test_plain_text_stays_as_it_is(message: str) -> None:
    """Text without controls is one segment without classes."""
    assert shown_text(message) == ([(message, "")] if message else [], ())


def test_colours_become_classes_and_end_where_they_end() -> None:
    """A red bold word is red and bold, and what follows its end is not."""
    shown, _ = shown_text("a \x1b[1;31merror\x1b[0m b \x1b[94mblue\x1b[39m c")
    assert shown == [("a ", ""), ("error", "b f1"), (" b ", ""), ("blue", "f4"), (" c", "")]


def test_colours_of_256_and_of_rgb_become_the_nearest_of_8() -> None:
    """A page has 8 colours in two themes; others become one of them."""
    assert shown_text("\x1b[38;5;196mx")[0] == [("x", "f1")]
    assert shown_text("\x1b[48;2;0;200;0mx")[0] == [("x", "g2")]
    assert shown_text("\x1b[38;5;240mx")[0] == [("x", "f0")]
    assert shown_text("\x1b[38;5mx")[0] == [("x", "")]


def test_a_hidden_link_is_visible() -> None:
    """An OSC 8 sequence, which hides an address behind a text, is spelled out."""
    spelled_out = "\\x1b]8;;http://evil\\x1b\\ok\\x1b]8;;\\x1b\\"
    assert shown_text("\x1b]8;;http://evil\x1b\\ok\x1b]8;;\x1b\\") == ([(spelled_out, "")], [])


def test_a_line_that_was_written_over_shows_its_last_state() -> None:
    """Of a progress bar the last state is shown; the ones before are kept for who asks."""
    shown = [("100 %", "f2"), ("\ndone", "")]
    assert shown_text("10 %\r50 %\r\x1b[32m100 %\x1b[0m\r\ndone") == (shown, ["10 %", "50 %"])


def test_bytes_that_are_no_text_are_spelled_out() -> None:
    """A byte that is not UTF-8 is shown as what it is."""
    assert shown_text("caf\udce9") == ([("caf\\xe9", "")], [])
    assert plain_text("\x1b[1mcaf\udce9\x1b[0m") == "caf\\xe9"
