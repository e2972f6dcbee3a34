"""The values codec loses nothing and refuses what it cannot keep."""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import json
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomaflow_api.v1 import lossless_json as values

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec=None))
)
_DATES = st.dates() | (st.times() | st.datetimes() | st.datetimes(timezones=st.just(dt.UTC))).map(
    lambda moment: moment.replace(fold=0)  # neither TOML nor ISO text has it
)
_KEYS = st.text(max_size=8) | st.sampled_from(["$date", "$literal", "$time", "$datetime", "$x", "$"])


def _trees(leaves: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=3), max_leaves=20
    )


def _same(left: object, right: object) -> bool:
    """Return True where values and types are equal all the way down, which == alone does not say (1 == True)."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict) and isinstance(right, dict):
        return list(left) == list(right) and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return repr(left) == repr(right)


def _dumps(value: object, *, path: str = "") -> str:
    """Return the tagged text of a value, as a file's or a client's values are sent."""
    return json.dumps(values.encode_tree(value, path=path), allow_nan=False)


@given(_trees(_SCALARS | _DATES))
def test_tagged_round_trip(value: object) -> None:
    """Any tree with dates comes back the same, types included, and its text is plain ASCII JSON."""
    text = _dumps(value)
    assert text.isascii()
    json.loads(text)
    assert _same(values.loads(text), value)
    assert _same(values.decode_tree(values.encode_tree(value)), value)


@given(_trees(_SCALARS))
def test_plain_round_trip(value: object) -> None:
    """Any tree without dates comes back the same from the plain half, keys like $date included."""
    assert _same(values.loads_plain(values.dumps_plain(value)), value)


def test_longest_integers() -> None:
    """Integers of 4,300 digits are kept exactly; one digit more is refused by its path, both ways."""
    for number in (10**4300 - 1, -(10**4300) + 1):
        assert values.loads(_dumps({"n": number})) == {"n": number}
    for number in (10**4300, -(10**4300), 10**6000):
        with pytest.raises(values.ValueCodecError, match=r"^op\.n: the integer has more than 4300 digits"):
            _dumps({"n": number}, path="op")
    with pytest.raises(values.ValueCodecError, match=r"^p\.n\[0\]: an integer of 4301 digits"):
        values.loads('{"n": [' + "9" * 4301 + "]}", path="p")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[NaN]", "[0]: NaN is not allowed"),
        ('{"a": -Infinity}', "a: -Infinity is not allowed"),
        ('{"a": [1e999]}', "a[0]: the number '1e999' is out of range"),
        ('{"a": {"b": 1, "b": 2}}', "a: the key 'b' occurs twice"),
        ("{'a': 1}", "not JSON: Expecting property name enclosed in double quotes at line 1, column 2"),
        ("", "not JSON: Expecting value at line 1, column 1"),
        ("1 2", "not JSON: Extra data at line 1, column 3"),
        ('{"a": {"$date": 5}}', "a: $date holds int, expected ISO text"),
        ('{"$date": "yesterday"}', "$date holds 'yesterday', expected ISO text"),
        ('{"$literal": []}', "$literal holds list, expected an object"),
        ('{"x": {"$when": "1"}}', "x: unknown tag '$when', expected one of $date, $time, $datetime, $literal"),
    ],
)
def test_refused_texts(text: str, message: str) -> None:
    """Each malformed text is refused with where and what."""
    with pytest.raises(values.ValueCodecError) as caught:
        values.loads(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("value", "path", "problem"),
    [
        ({"rows": [1, 2, {"when": dt.date(2026, 1, 1)}]}, "extras.rows[2].when", "datetime.date"),
        ({"a": {1: 2}}, "extras.a", "the key 1 is int"),
        ({"a b": float("nan")}, "extras['a b']", "nan has no JSON form"),
        ([float("-inf")], "extras[0]", "-inf has no JSON form"),
        ({"s": {1, 2}}, "extras.s", "sorted(value)"),
        ({"b": b"x"}, "extras.b", "decode()"),
        ({"o": object()}, "extras.o", "type object"),
    ],
)
def test_refused_values(value: object, path: str, problem: str) -> None:
    """Each value without an exact form is refused by its path."""
    with pytest.raises(values.ValueCodecError) as caught:
        values.dumps_plain(value, path="extras")
    assert caught.value.path == path
    assert problem in caught.value.problem


def test_subclasses_count_by_value() -> None:
    """Subclasses of str, int, float and dict, and tuples, are taken for what they hold, whatever they override."""

    class Loud(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "LOUD"

    class Colour(enum.IntEnum):
        RED = 3

    class Table(dict[str, int]):
        def items(self):  # type: ignore[no-untyped-def,override]  # a hostile override
            return []

    tree = values.plain_tree({Loud("k"): (Loud("v"), Colour.RED, Table(a=1))})
    assert _same(tree, {"k": ["v", 3, {"a": 1}]})


def test_depth() -> None:
    """64 levels are kept, 65 are refused; 100,000 levels, open or closed, and cycles end in the same clear error."""
    deep: object = 1
    for _ in range(64):
        deep = [deep]
    assert values.loads(_dumps(deep)) == deep
    cycle: list[object] = []
    cycle.append(cycle)
    for bad in ([deep], cycle):
        with pytest.raises(values.ValueCodecError, match="more than 64 levels"):
            _dumps(bad)
    for text in ("[" * 65 + "]" * 65, "[" * 100_000 + "]" * 100_000, '{"a":' * 100_000):
        with pytest.raises(values.ValueCodecError, match="more than 64 levels"):
            values.loads(text)
    assert values.loads('"' + "[" * 100_000 + '\\"{"') == "[" * 100_000 + '"{'


def test_tags_count_as_levels() -> None:
    """A date at the deepest level would make the text deeper than the bound, so it is refused."""
    deep: object = dt.date(2026, 1, 1)
    for _ in range(64):
        deep = [deep]
    with pytest.raises(values.ValueCodecError):
        _dumps(deep)
    assert values.loads(_dumps(deep[0]))  # type: ignore[index]  # a list by construction


def test_literals_count_as_levels() -> None:
    """The wrapper of a key that begins with $ counts too: what is written can always be read."""
    for depth in range(58, 66):
        deep: object = {"$x": 1}
        for _ in range(depth):
            deep = [deep]
        if depth <= 62:
            assert values.loads(_dumps(deep)) == deep
        else:
            with pytest.raises(values.ValueCodecError, match="64 levels"):
                _dumps(deep)


def test_hostile_texts_cost_linear_time() -> None:
    """Unterminated strings and many repeated keys take no quadratic time."""
    started = time.process_time()
    for text in ("[" * 70 + '"' + '\\"' * 500_000, "{" + ",".join(f'"k{n}":1' for n in range(50_000)) + ',"k49999":1}'):
        with pytest.raises(values.ValueCodecError):
            values.loads(text)
    assert time.process_time() - started < 5


@settings(max_examples=300)
@given(st.text(alphabet='[]{}",:\\0123456789eE+-.tfn$date ', max_size=40))
def test_never_another_exception(text: str) -> None:
    """Any text is either read or refused with the codec's own error."""
    with contextlib.suppress(values.ValueCodecError):
        values.loads(text)


def test_standard_library_only() -> None:
    """The codec loads nothing of protobuf or gRPC."""
    loaded = "print([m for m in sys.modules if m.split('.')[0] in ('google', 'grpc')])"
    code = f"import sys, nomaflow_api.v1.lossless_json; {loaded}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
