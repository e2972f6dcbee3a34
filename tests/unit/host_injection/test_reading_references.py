"""References: their grammar, and what each half can get wrong."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING

import pytest

from nomaflow_host.injection.call_plan import plan_for
from nomaflow_host.injection.callables import innermost, kind_of_callable
from nomaflow_host.injection.errors import PreparationFailed
from nomaflow_host.injection.references import check_reference, import_module, resolve_reference

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "text",
    [
        "../x:f", "/etc/passwd:f", "m", "m:", ":f", "m:f:g", "m.:f", ".m:f", "m..n:f", "m:f.", "m:.f", "m f:g", "m:f()",
        "m:f.__globals__", "m:__import__", "__main__:f", "m.__init__:f", "m:__f", "mоdule:f", "m:ｆ", "m:f\n", "m:f\0",
        "." * 10_000, "m:" + "a" * 300, "m-n:f", "1m:f", "",
    ],
)  # fmt: skip
def test_malformed_references(text: str) -> None:
    """A reference other than ASCII dotted names with one colon and no dunder is refused before any import."""
    before = set(sys.modules)
    with pytest.raises(PreparationFailed) as caught:
        check_reference(text)
    assert caught.value.reason_code == "reference_invalid"
    assert len(caught.value.message) < 400
    assert set(sys.modules) == before


@pytest.mark.parametrize(("text", "words"), [(":f", "module before the colon"), ("m:", "function after the colon")])
def test_a_missing_half(text: str, words: str) -> None:
    """The half that is missing is named, with its side of the colon."""
    with pytest.raises(PreparationFailed, match=words):
        check_reference(text)


@pytest.mark.parametrize("text", ["m:f", "a.b.c:D.e.f", "_private:_f", "os.path:join", "M1:x_2"])
def test_good_references(text: str) -> None:
    """Dotted names on both sides are fine, private ones too."""
    check_reference(text)


_MODULE = """
import functools

class Tool:
    @staticmethod
    def static(*, x): return x
    @classmethod
    async def klass(cls, *, x): return x
    def method(self, *, x): return x
    class Inner:
        @staticmethod
        def deep(): return 1

class Sync:
    def __call__(self, *, x): return x

class Async:
    async def __call__(self, *, x): return x

def plain(a, *, x=1): return x
async def coro(*, x): return x
def gen(): yield 1
async def agen(): yield 1
def deco(f):
    @functools.wraps(f)
    def wrapper(*args, **kwargs): return f(*args, **kwargs)
    return wrapper
def adeco(f):
    @functools.wraps(f)
    async def wrapper(*args, **kwargs): return await f(*args, **kwargs)
    return wrapper
decorated = deco(plain)
decorated_coro = deco(coro)
adecorated = adeco(coro)
decorated_gen = deco(gen)
part = functools.partial(plain, 5)
part_coro = functools.partial(functools.partial(coro), x=1)
sync_object, async_object, tool = Sync(), Async(), Tool()
bound = tool.method
number, nothing = 5, None
"""


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of an importable module with one callable of each kind."""
    (tmp_path / "zoo_of_callables.py").write_text(_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "zoo_of_callables", raising=False)
    return "zoo_of_callables"


@pytest.mark.parametrize(
    ("attribute", "kind"),
    [
        ("plain", "sync"), ("coro", "async"), ("decorated", "sync"), ("decorated_coro", "sync"),
        ("adecorated", "async"),
        ("part", "sync"), ("part_coro", "async"), ("sync_object", "sync"), ("async_object", "async"), ("bound", "sync"),
        ("Tool.static", "sync"), ("Tool.klass", "async"), ("Tool.Inner.deep", "sync"), ("tool.method", "sync"),
    ],
)  # fmt: skip
def test_kinds(zoo: str, attribute: str, kind: str) -> None:
    """Each kind of callable resolves, and is called the way it has to be."""
    target = resolve_reference(f"{zoo}:{attribute}", importer=import_module)
    assert kind_of_callable(target, reference="r") == kind
    assert plan_for(target, reference="r").location.startswith("/")
    assert innermost(target).__code__.co_name != "wrapper"


@pytest.mark.parametrize(
    ("attribute", "code", "words"),
    [
        ("gen", "callable_unsupported", "is a generator"),
        ("decorated_gen", "callable_unsupported", "is a generator"),
        ("agen", "callable_unsupported", "is an async generator"),
        ("Tool", "callable_unsupported", "is a class"),
        ("number", "callable_unsupported", "type int, which is not callable"),
        ("nothing", "callable_unsupported", "type NoneType, which is not callable"),
        ("Tool.method", "callable_unsupported", "needs an instance of Tool"),
        ("plane", "callable_not_found", " has no function 'plane'; did you mean 'plain'?"),
        ("Tool.statik", "callable_not_found", ":Tool has no attribute 'statik'; did you mean 'static'?"),
    ],
)
def test_refused_callables(zoo: str, attribute: str, code: str, words: str) -> None:
    """An object that cannot be a step is refused by name, with the way out or the near match."""
    with pytest.raises(PreparationFailed) as caught:
        plan_for(resolve_reference(f"{zoo}:{attribute}", importer=import_module), reference=f"{zoo}:{attribute}")
    assert caught.value.reason_code == code
    assert words in caught.value.message
    assert attribute.rpartition(".")[2] in caught.value.message


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ("raise ValueError('boom')", "import_failed", "ValueError: boom"),
        ("import sys; sys.exit(7)", "import_failed", "it called sys.exit(7)"),
        ("raise KeyboardInterrupt", "import_failed", "KeyboardInterrupt"),
        ("def f(:", "import_failed", "SyntaxError: invalid syntax"),
        ("import no_such_library", "import_failed", "imports 'no_such_library', which is not installed here"),
        ("from os import no_such_name", "import_failed", "ImportError: cannot import name 'no_such_name'"),
        ("class E(Exception):\n  def __str__(self): 1/0\nraise E", "import_failed", "str() raised ZeroDivisionError"),
        ("raise BaseExceptionGroup('g', [ValueError(1)])", "import_failed", "ExceptionGroup: g (1 sub-exception)"),
        ("x = (" + "(" * 300, "import_failed", "SyntaxError"),
        ("import os\nos.environ['NOT_SET']", "import_failed", "KeyError: 'NOT_SET'"),
        ("import json\njson.loads('{')", "import_failed", "JSONDecodeError"),
    ],
)
def test_modules_that_do_not_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, code: str, words: str
) -> None:
    """A module that raises, exits or cannot be parsed is reported with its file and line."""
    (tmp_path / "poisoned.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PreparationFailed) as caught:
        resolve_reference("poisoned:f", importer=import_module)
    assert caught.value.reason_code == code
    assert words in caught.value.message
    assert "poisoned.py:" in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("no_such_module:f", "there is no module 'no_such_module'"),
        ("json.no_such:f", "there is no module 'json.no_such'"),
        ("no_such.deep.module:f", "there is no module 'no_such.deep.module' (there is no 'no_such')"),
        ("string.deep:f", "('string' is a module, not a package)"),
        ("json.decodr:f", "there is no module 'json.decodr' (did you mean 'json.decoder'?)"),
        ("syntax:f", "there is no module 'syntax'"),
        ("josn.decoder:f", "(there is no 'josn') (did you mean 'json'?)"),
    ],
)
def test_missing_modules(reference: str, words: str) -> None:
    """A missing module is distinguished from a failing one, and the missing part is named."""
    with pytest.raises(PreparationFailed) as caught:
        resolve_reference(reference, importer=import_module)
    assert caught.value.reason_code == "callable_not_found"
    assert words in caught.value.message
    assert ("did you mean" in words) == ("did you mean" in caught.value.message)


def test_partial_of_partial_keeps_its_values() -> None:
    """A partial's own values are not injected over, and what it bound by position is no parameter any more."""

    def work(first, *, ctx=None, x=0):  # type: ignore[no-untyped-def]  # as authors write it
        return first, ctx, x

    plan = plan_for(functools.partial(functools.partial(work, 1), ctx="mine"), reference="m:work")
    arguments = plan.bind({"x": 2}, strict={"x"}, injections={"ctx": "injected"})
    assert plan.target(**arguments) == (1, "mine", 2)
