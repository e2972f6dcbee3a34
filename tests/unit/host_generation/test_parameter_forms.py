"""A manifest has what a form needs: defaults as JSON, schemas, and descriptions of parameters from docstrings."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from nomaflow_host.attempt.masking import Masker
from nomaflow_host.generation.docstrings import parameter_docs
from nomaflow_host.generation.generation import Generation
from nomaflow_host.supervisor.manifest_masking import masked_manifest

Project = Callable[..., Generation]

HEAD = """
from __future__ import annotations
import dataclasses, datetime, enum, pathlib
from typing import *
class Colour(enum.Enum):
    RED = "red"
class Odd: ...
@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5
"""


def parameters(project: Project, signature: str, *, head: str = HEAD, doc: str = "") -> dict[str, dict[str, Any]]:
    """Return the parameters of a callable with a signature, by name."""
    generation = project({"m.py": f"{head}\ndef f(*, {signature}):\n    {doc!r}\n"}, "m:f")
    return {each["name"]: each for each in generation.manifest()["callables"]["m:f"]["parameters"]}


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        ("int", {"type": "integer"}),
        ("float", {"type": "number"}),
        ("bool", {"type": "boolean"}),
        ("str | None", {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        ("Literal['a', 'b']", {"enum": ["a", "b"]}),
        ("list[int]", {"type": "array", "items": {"type": "integer"}}),
        ("dict[str, float]", {"type": "object", "additionalProperties": {"type": "number"}}),
        ("datetime.date", {"type": "string", "format": "date"}),
        ("pathlib.Path", {"type": "string", "format": "path"}),
        ("list[Odd]", {"type": "array", "items": {"title": "Odd"}}),
        ("Odd", None),
        ("Any", None),
        ("Unknown", None),
        ("1 / 0", None),
    ],
)
def test_an_annotation_becomes_a_schema(project: Project, annotation: str, schema: object) -> None:
    """An unknown annotation has no schema, and one that raises harms no other."""
    found = parameters(project, f"n: {annotation}, other: int")
    assert found["n"].get("schema") == schema
    assert found["other"]["schema"] == {"type": "integer"}


def test_an_enum_and_a_model_are_schemas_too(project: Project) -> None:
    """The names of a class's fields, and the values of an enum, are what a form offers."""
    found = parameters(project, "colour: Colour, point: Point, text: Annotated[str, 'a note']")
    assert found["colour"]["schema"]["$defs"]["Colour"]["enum"] == ["red"]
    assert found["point"]["schema"]["properties"]["y"] == {"default": 0.5, "title": "Y", "type": "number"}
    assert found["text"]["schema"] == {"type": "string"}


def test_a_name_of_the_module_is_not_mistaken_for_a_plain_type(project: Project) -> None:
    """``int`` is what the module says it is."""
    found = parameters(project, "n: int", head="from __future__ import annotations\nint = str\n")
    assert found["n"]["schema"] == {"type": "string"}


def test_a_default_that_json_can_hold_is_told_exactly(project: Project) -> None:
    """One that it cannot hold, a date of the import's day and a very long one are left out."""
    told = "a=30, b=None, c=('x', 1.5), d={'k': [True]}, e='\\u00e9\"'"
    signature = f"{told}, f=datetime.date.today(), g=Odd(), h='x' * 20_000, i"
    found = parameters(project, signature)
    given = {name: json.loads(each["default_json"]) for name, each in found.items() if "default_json" in each}
    assert given == {"a": 30, "b": None, "c": ["x", 1.5], "d": {"k": [True]}, "e": 'é"'}
    assert found["i"]["required"]


def test_credentials_in_defaults_and_schemas_stay_in_the_host(project: Project) -> None:
    """A default with one is not told at all: a form would send what stands in its place."""
    secret = "s3cr3t-value"
    signature = f"a={secret!r}, b={{'k': {secret!r}}}, c: Literal[{secret!r}, 'x'] = 'x'"
    generation = project({"m.py": f"{HEAD}\ndef f(*, {signature}):\n    ':param a: not {secret}'\n"}, "m:f")
    masked = masked_manifest(generation.manifest(), Masker([secret]))
    assert secret not in json.dumps(masked)
    by_name = {each["name"]: each for each in masked["callables"]["m:f"]["parameters"]}
    assert "default_json" not in by_name["a"]
    assert "default_json" not in by_name["b"]
    assert by_name["c"]["default_json"] == '"x"'
    assert by_name["a"]["doc"] == "not ***"


@pytest.mark.parametrize(
    "doc",
    [
        """Purge.

        :param days: the age
            in days
        :param int limit: at most so many
        :returns: nothing
        """,
        """Purge.

        Args:
            days (int): the age
                in days
            limit: at most so many

        Returns:
            other: nothing
        """,
        """Purge.

        Parameters
        ----------
        days : int
            the age
            in days
        limit
            at most so many

        Returns
        -------
        other
            nothing
        """,
    ],
    ids=["sphinx", "google", "numpy"],
)
def test_a_docstring_tells_of_its_parameters(doc: str) -> None:
    """In each of the three usual styles, on one line; what it says of results is no parameter."""
    assert parameter_docs(doc) == {"days": "the age in days", "limit": "at most so many"}


def test_a_section_whose_items_are_indented_ends_at_the_next_title() -> None:
    """Some write NumPy's items deeper than the title; the title of the next section tells of no parameter."""
    doc = "Parameters\n----------\n    days : int\n        the age in days\n\nReturns\n-------\n    int"
    assert parameter_docs(doc) == {"days": "the age in days"}


@pytest.mark.parametrize("doc", ["", "Args:", ":param", ":param x:", "Parameters\n---", "x" * 100_000, "Args:\n a:\n"])
def test_a_docstring_of_another_form_tells_nothing(doc: str) -> None:
    """A docstring of an unknown form gives no description, and no error."""
    assert parameter_docs(doc) == {}


def test_long_texts_of_a_callable_are_cut(project: Project) -> None:
    """Else one generated docstring or annotation could make the manifest too large, and the kernel refuse all jobs."""
    head = "from typing import Literal\nLong = Literal[tuple(f'name {number}' for number in range(500))]\n"
    generation = project({"m.py": f"{head}\ndef f(*, a: Long):\n    {'d' * 600!r}\n"}, "m:f")
    found = generation.manifest()["callables"]["m:f"]
    assert found["doc"] == "d" * 499 + "…"
    assert len(found["parameters"][0]["annotation"]) == 500
