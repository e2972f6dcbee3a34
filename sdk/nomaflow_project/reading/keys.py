"""The declaration of the keys of the three files.

Each key is declared once, with its type, bounds, default, unit, first version and meaning: the same declaration
validates a file and generates docs/configuration.md and the JSON Schemas. Loads no pydantic: a process that gets
checked values does without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar

from nomaflow_project.reading.records import Record

if TYPE_CHECKING:
    from pydantic import ConfigDict


_LONGEST_SECONDS = 1e9

FORM: ConfigDict = {"extra": "forbid", "allow_inf_nan": False}
"""Unknown keys are refused; texts of numbers are read, as ``${NAME}`` gives them."""


class Entry(Record):
    """A table of one of the files: the base of dataclasses whose fields `key` declares.

    A table of a file is read, and checked, by `nomaflow_project.reading.validation.validate`.
    """

    __slots__ = ()
    __pydantic_config__: ClassVar[Any] = FORM

    REPLACED: ClassVar[Mapping[str, str]] = {}
    """Keys that are gone, each with what to do instead."""

    check_numbers: ClassVar[Any]
    """Refuses true for 1; `nomaflow_project.reading.validation` puts it here."""


class Unlisted:
    """A mark of a field that the JSON Schema leaves out, since no file has it: ``Annotated[str, Unlisted()]``."""

    def __get_pydantic_json_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import PydanticOmit

        raise PydanticOmit


class Checked:
    """A check of a value beyond its type: ``Annotated[str, Checked(function)]``.

    :param check: returns the value, or raises a `refusal`
    """

    def __init__(self, check: Callable[[Any], Any]) -> None:
        self._check = check

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self._check, handler(source))


def refusal(code: str, message: str, **context: object) -> Exception:
    """Return what a check raises.

    :param code: of the problem, listed in docs/configuration.md
    :param context: fills ``{name}`` in the message; ``fix`` is the way out
    """
    from pydantic_core import PydanticCustomError

    return PydanticCustomError(code, message, context)


def formed(code: str, form: Callable[[str], object], expected: str, fix: str) -> Checked:
    """Return the check of a text, or of each of several, that must have a form.

    :param form: returns something true for a text that has it
    :param expected: ends the sentence *'text' is not …*
    """

    def checked(given: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for text in (given,) if isinstance(given, str) else given:
            if not form(text):
                raise refusal(code, "{got} is not " + expected, got=repr(text[:80]), fix=fix)
        return given

    return Checked(checked)


def key(
    default: Any, meaning: str, *, unit: str = "", since: str = "0.1.0", of_file: bool = False, **constraints: Any
) -> Any:
    """Return the declaration of one key, a field of a dataclass.

    :param default: a value, a function that makes it, or ``...`` for a required key
    :param meaning: its row in docs/configuration.md
    :param of_file: True for a key of the file alone, which is neither compared, served nor stored
    :param constraints: bounds, as pydantic names them
    """
    extra = {"since": since, "unit": unit} if unit else {"since": since}
    metadata = {"description": meaning, "json_schema_extra": extra, **constraints}
    if default is ...:
        return field(metadata=metadata)
    if callable(default):
        return field(default_factory=default, compare=not of_file, metadata=metadata)
    return field(default=default, compare=not of_file, metadata=metadata)


def seconds(default: Any, meaning: str, *, zero: bool = False, most: float = _LONGEST_SECONDS) -> Any:
    """Return the declaration of a key that is a time in seconds, above zero unless ``zero`` is allowed."""
    bound: dict[str, Any] = {"ge": 0} if zero else {"gt": 0}
    return key(default, meaning, unit="seconds", le=most, **bound)
