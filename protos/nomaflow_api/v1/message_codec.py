"""Conversion between protobuf messages and values, driven by the names of their fields.

A value is an object with attributes, such as a frozen struct; `decode` makes one of a message, `encode` makes a
message of one. For a field NAME of the message:

===========================  ========================================================================================
field                        attribute
===========================  ========================================================================================
``Timestamp NAME``           ``NAME``: an aware datetime in UTC, None if unset. `encode` also takes ``NAME_us``,
                             microseconds since the epoch
``bytes NAME_json``          ``NAME``: a dict, empty for no text (None if its type allows it). `encode` also takes
                             ``NAME_json``, the text itself
``bytes NAME``               ``NAME``: text; bytes that are not UTF-8 are lone surrogates
an enum                      the name of its constant without the prefix, empty for ``UNSPECIFIED``; `encode` takes it
                             in either case. A number that these stubs do not know becomes its digits
a message                    a value of the annotated class; None if it is absent and the type allows None
an ``optional`` scalar       None if it is absent
a repeated field             a tuple
any other scalar             itself
===========================  ========================================================================================

An annotation ``Annotated[T, function]`` has the function applied to what this table gives. One of a repeated field,
``Annotated[tuple[T, ...], REMEMBERED]``, keeps the values that were decoded lately, in every process that decodes them:
a message with the same bytes is the same value again, at a fifth of the cost. The conversion of each pair of classes is
compiled once, to the call of a constructor that one would write by hand: loops over a plan of the fields
made the answer to a trigger five times as expensive.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import NoneType
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin, get_type_hints

from google.protobuf import message_factory
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from msgspec import Struct

from nomaflow_api.bounds import LAST_MOMENT_US
from nomaflow_api.field_marks import REMEMBERED

_MOST_REMEMBERED = 500
"""Values of one list that were decoded last; as many of those before are kept too."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_T = TypeVar("_T")
_M = TypeVar("_M", bound=Message)
_Convert = Callable[[Any], Any]


def decode(kind: type[_T], message: Message) -> _T:
    """Return a message as a value of a class, each field of which has one in the message."""
    return _decoder(kind, type(message))(message)  # type: ignore[no-any-return]  # the plan makes a value of the class


def encode(kind: type[_M], /, *sources: object, **given: Any) -> _M:
    """Return a message made of the attributes of values, and of given fields.

    Lone surrogates in a text become their escapes, such as ``\\udc80``.

    :param sources: for each field the first of them with its attribute is used
    :param given: fields by name, in the same form as attributes, or messages; they override attributes
    :raises TypeError: if a field is neither given nor an attribute
    """
    types, names = tuple(map(type, sources)), tuple(given)
    try:
        made: _M = _encoder(kind, types, names)(sources, given)
    except UnicodeEncodeError:
        # A text has a lone surrogate, as from a file's name that is not UTF-8: the wire carries Unicode only.
        made = _encoder(kind, types, names, lenient=True)(sources, given)
    return made


def timestamp(at: int | datetime | Timestamp) -> Timestamp:
    """Return the message of an instant.

    :param at: an aware datetime, microseconds since the epoch, or the message itself
    """
    if isinstance(at, Timestamp):
        return at
    if isinstance(at, datetime):
        at = (at.astimezone(UTC) - _EPOCH) // _MICROSECOND
    seconds, micros = divmod(at, 1_000_000)
    return Timestamp(seconds=seconds, nanos=micros * 1000)


# --- decoding -----------------------------------------------------------------------------------------------------


@functools.cache
def _decoder(kind: type[Any], message_type: type[Message]) -> _Convert:
    hints = get_type_hints(kind, include_extras=True)
    scope: dict[str, Any] = {"kind": kind}
    arguments = []
    for name in _field_names(kind):
        field = _described(message_type, kind, name)
        convert, may_be_none = _decoding(field, hints[name], repeated=_is_repeated(message_type, field))
        value = f"message.{field.name}"
        if convert is not None:
            scope[f"to_{name}"] = convert
            value = f"to_{name}({value})"
        if may_be_none and field.has_presence:
            value += f" if message.HasField({field.name!r}) else None"
        arguments.append(f"{name}={value}")
    return _compiled("message", arguments, scope)


def _described(message_type: type[Message], kind: type[Any], name: str) -> FieldDescriptor:
    known = message_type.DESCRIPTOR.fields_by_name
    found = known.get(name) or known.get(f"{name}_json")
    if found is None:
        raise TypeError(f"{message_type.DESCRIPTOR.full_name} has no field {name!r} for {kind.__name__}")
    return found


def _decoding(field: FieldDescriptor, hint: Any, *, repeated: bool) -> tuple[_Convert | None, bool]:
    """Return the conversion of a field, None for none, and whether its value may be None."""
    hint, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    choices = get_args(hint)
    may_be_none = NoneType in choices
    convert: _Convert | None = None
    if _is_map(field):
        return dict, False
    if _is_timestamp(field):
        convert = _instant
    elif field.message_type is not None:
        inner = choices[0] if repeated or may_be_none else hint
        convert = _decoder(inner, message_factory.GetMessageClass(field.message_type))
    elif field.enum_type is not None:
        convert = _names(field.enum_type).__getitem__
    elif field.name.endswith("_json"):
        empty = "null" if may_be_none else "{}"
        convert = lambda text: json.loads(text or empty)  # noqa: E731  # one of several conversions
    elif field.type == FieldDescriptor.TYPE_BYTES:
        convert = _text
    if repeated:
        convert = _each(convert) if convert is None or REMEMBERED not in marks else _each_remembered(convert)
    for after in filter(callable, marks):
        convert = after if convert is None else _composed(convert, after)
    return convert, may_be_none


def _each(convert: _Convert | None) -> _Convert:
    return tuple if convert is None else lambda items: tuple(map(convert, items))


def _each_remembered(convert: _Convert) -> _Convert:
    lately: dict[bytes, Any] = {}
    before: dict[bytes, Any] = {}

    def each(messages: Sequence[Message]) -> tuple[Any, ...]:
        nonlocal lately, before
        found = []
        for message in messages:
            sent = message.SerializeToString()
            value = lately[sent] = lately.get(sent) or before.get(sent) or convert(message)
            found.append(value)
        if len(lately) > _MOST_REMEMBERED:
            lately, before = {}, lately
        return tuple(found)

    return each


def _composed(first: _Convert, second: _Convert) -> _Convert:
    return lambda value: second(first(value))


def _instant(stamp: Timestamp) -> datetime | None:
    if not (stamp.seconds or stamp.nanos):
        return None
    # No peer of ours sends a time that no calendar has; whoever does is shown the last one that has a date.
    at_us = stamp.seconds * 1_000_000 + stamp.nanos // 1000
    return _EPOCH + timedelta(microseconds=min(max(at_us, 0), LAST_MOMENT_US))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


class _Names(dict[int, str]):
    def __missing__(self, number: int) -> str:
        return str(number)


@functools.cache
def _names(enum: EnumDescriptor) -> _Names:
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return _Names({value.number: value.name.removeprefix(prefix) if value.number else "" for value in enum.values})


# --- encoding -----------------------------------------------------------------------------------------------------


@functools.cache
def _encoder(
    kind: type[Message], sources: tuple[type[Any], ...], given: tuple[str, ...], *, lenient: bool = False
) -> Callable[[Any, Any], Any]:
    scope: dict[str, Any] = {"kind": kind}
    arguments = []
    for field in kind.DESCRIPTOR.fields:
        name, value = field.name, f"given[{field.name!r}]"
        if name not in given:
            index, attribute = _attribute_for(kind, field, sources)
            value = f"sources[{index}].{attribute}"
        convert = _encoding_of_one(field)
        if lenient and field.type == FieldDescriptor.TYPE_STRING:
            convert = _well_formed
        if convert is not None:
            scope[f"to_{name}"] = _each(convert) if _is_repeated(kind, field) else convert
            value = f"None if (value := {value}) is None else to_{name}(value)"
        arguments.append(f"{name}={value}")
    return _compiled("sources, given", arguments, scope)


def _attribute_for(kind: type[Message], field: FieldDescriptor, sources: Sequence[type[Any]]) -> tuple[int, str]:
    """Return the index of the source that has a field, and the name of its attribute."""
    names = (field.name, f"{field.name}_us") if _is_timestamp(field) else (field.name, field.name.removesuffix("_json"))
    for index, source in enumerate(sources):
        known = set(_field_names(source))
        if issubclass(source, Message):
            known.update(source.DESCRIPTOR.fields_by_name)
        for name in names:
            if name in known or hasattr(source, name):
                return index, name
    among = ", ".join(source.__name__ for source in sources) or "no source"
    raise TypeError(f"{kind.DESCRIPTOR.full_name} needs {field.name!r}, which {among} does not have")


def _encoding_of_one(field: FieldDescriptor) -> _Convert | None:
    if _is_map(field):
        return dict
    if _is_timestamp(field):
        return timestamp
    if field.message_type is not None:
        kind = message_factory.GetMessageClass(field.message_type)
        return lambda value: value if isinstance(value, Message) else encode(kind, value)
    if field.enum_type is not None:
        names = _names(field.enum_type).items()
        return {text: number for number, name in names for text in (name, name.lower())}.__getitem__
    return _bytes if field.type == FieldDescriptor.TYPE_BYTES else None


def _well_formed(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _bytes(value: bytes | str | Mapping[str, Any]) -> bytes:
    if isinstance(value, bytes):
        return value
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":")) if value else ""
    return text.encode("utf-8", "surrogatepass")


# --- both ---------------------------------------------------------------------------------------------------------


def _compiled(parameters: str, arguments: Sequence[str], scope: dict[str, Any]) -> Callable[..., Any]:
    """Return a function that calls ``kind`` of a scope with arguments; they hold names of fields, and nothing sent."""
    return cast("Callable[..., Any]", eval(f"lambda {parameters}: kind({', '.join(arguments)})", scope))  # noqa: S307


def _field_names(kind: type[Any]) -> Sequence[str]:
    """Return the names of the fields of a struct or a dataclass; none of another class."""
    if issubclass(kind, Struct):
        return kind.__struct_fields__
    return [each.name for each in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else ()


def _is_map(field: FieldDescriptor) -> bool:
    """Return whether a field is a map; its values are texts or numbers: a map of messages is for whoever needs one."""
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _is_timestamp(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.full_name == Timestamp.DESCRIPTOR.full_name


def _is_repeated(message_type: type[Message], field: FieldDescriptor) -> bool:
    # Only newer releases of protobuf have a property for it without a warning.
    return hasattr(getattr(message_type(), field.name), "extend")
