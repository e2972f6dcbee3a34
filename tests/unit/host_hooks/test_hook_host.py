"""Plugins are found, checked, and dropped with a reason where they do not fit."""

from __future__ import annotations

import importlib.metadata
import inspect
import io
import json
import os
import sys
import types
from typing import TYPE_CHECKING, Any

import pytest

from nomaflow import RunContext, hookimpl, hookspecs
from nomaflow.calls import StepCall
from nomaflow_host.hooks.installed_plugins import installed_plugins
from nomaflow_host.hooks.manager import HookHost, build_hooks, defines_hooks

if TYPE_CHECKING:
    from pathlib import Path

CALL = StepCall(reference="m:f", kind="sync", ctx=RunContext(run_id="run_1"))


def hooks_of(*, environ: dict[str, str] | None = None, trace: io.StringIO | None = None, points: Any = ()) -> HookHost:
    """Return hooks with the built-in plugins and the entry points given."""
    return build_hooks(environ=environ or {}, trace_stream=trace or io.StringIO(), entry_points=points)


def module_of(source: str, name: str = "a_plugin") -> types.ModuleType:
    """Return a module of the source."""
    module = types.ModuleType(name)
    exec("from nomaflow import hookimpl\n" + source, vars(module))
    return module


HOOKS = [name for name in vars(hookspecs) if name.startswith("nomaflow_")]


@pytest.mark.parametrize("hook", HOOKS)
def test_specs_are_documented(hook: str) -> None:
    """Each hook says when it is called, what its parameters mean, what it returns and since when."""
    spec = getattr(hookspecs, hook)
    doc = inspect.getdoc(spec) or ""
    assert "Called " in doc
    assert ".. versionadded:: " in doc
    signature = inspect.signature(spec)
    for name in signature.parameters:
        assert f":param {name}:" in doc
    if signature.return_annotation != "None":
        assert ":return:" in doc
        assert "None" in doc


def test_own_behaviour_is_plugins() -> None:
    """Nomaflow's own behaviour is implemented on the public hooks."""
    hooks = hooks_of()
    assert {name for name, _ in hooks._manager.list_name_plugin()} == {
        "builtin.injecting", "builtin.connecting", "builtin.normalising", "builtin.resolving",
    }  # fmt: skip
    assert hooks.call.nomaflow_normalise_return(value=5, call=CALL).rows_affected == 5
    assert list(hooks.call.nomaflow_contribute_injections(call=CALL)[0]) == ["connectors", "ctx", "settings"]
    assert sorted(hooks.call.nomaflow_contribute_connectors()[0]) == ["api", "sql"]
    assert hooks.problems == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "@hookimpl\ndef nomaflow_step_type(): ...",
            "no hook 'nomaflow_step_type' (did you mean 'nomaflow_step_types'?)",
        ),
        ("@hookimpl\ndef anything(): ...", "no hook 'anything'"),
        ("@hookimpl\ndef nomaflow_normalise_return(valu): ...", "valu"),
        ("@hookimpl(hookwrapper=True)\ndef nomaflow_step_types(): ...", "generator"),
    ],
)
def test_misfits_are_dropped(source: str, words: str) -> None:
    """A plugin that does not match the specs is dropped, whole, with a problem that says why."""
    hooks = hooks_of()
    module = module_of("@hookimpl\ndef nomaflow_contribute_injections(): return {'x': 1}\n" + source)
    assert defines_hooks(module)
    hooks.add(module, name="acme", file="acme.py")
    (problem,) = hooks.problems
    assert (problem.severity, problem.code, problem.file) == ("error", "plugin_dropped", "acme.py")
    assert "the plugin 'acme' is not used" in problem.message
    assert words in problem.message
    assert not hooks._manager.has_plugin("acme")
    assert len(hooks.call.nomaflow_contribute_injections(call=CALL)) == 1
    hooks.add(module_of("@hookimpl\ndef nomaflow_contribute_injections(): return {'x': 1}"), name="good")
    assert len(hooks.call.nomaflow_contribute_injections(call=CALL)) == 2


def test_optional_hooks_may_be_newer() -> None:
    """A hook of a newer version is no error where its implementation says that it is optional."""
    hooks = hooks_of()
    hooks.add(module_of("@hookimpl(optionalhook=True)\ndef nomaflow_newer(): ..."), name="acme")
    assert hooks.problems == []


def test_same_plugin_twice() -> None:
    """A second registration is dropped with a problem, the first stays."""
    hooks = hooks_of()
    module = module_of("@hookimpl\ndef nomaflow_step_types(): return []")
    hooks.add(module, name="acme")
    other = module_of("@hookimpl\ndef nomaflow_step_types(): return []")
    assert hooks.problems == []
    hooks.add(other, name="acme")
    assert [problem.code for problem in hooks.problems] == ["plugin_dropped"]
    assert hooks._manager.has_plugin("acme")
    assert len(hooks.call.nomaflow_step_types()) == 1


def test_entry_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plugins of installed distributions are found; those that do not load are dropped with the reason."""
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[nomaflow.plugins]\ngood = acme_entry_good\nbad = acme_entry_bad\ngone = acme_entry_gone\n"
    )
    (tmp_path / "acme_entry_good.py").write_text(
        "from nomaflow import hookimpl\n@hookimpl\ndef nomaflow_contribute_settings(): return {'acme': 1}\n"
    )
    (tmp_path / "acme_entry_bad.py").write_text("import sys; sys.exit(1)")
    monkeypatch.syspath_prepend(tmp_path)
    hooks = build_hooks(environ={}, trace_stream=io.StringIO())
    assert hooks._manager.has_plugin("good")
    assert {"acme": 1} in hooks.call.nomaflow_contribute_settings()
    messages = {problem.message.split("'")[1]: problem.message for problem in hooks.problems}
    assert "SystemExit" in messages["bad"]
    assert "ModuleNotFoundError" in messages["gone"]
    sys.modules.pop("acme_entry_good")
    assert isinstance(importlib.metadata.version("acme"), str)


@pytest.mark.parametrize("group", ["nomaflow.plugins", "console_scripts", "pytest11"])
def test_entry_points_are_those_that_the_standard_library_finds(
    group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Distributions that hide others of their name, other groups, remarks, extras and objects are read alike."""
    for folder, text in (
        ("first/acme_tools-2.0.dist-info", f"[other]\na = no\n\n[{group}]\n# remark\nshop = os:path.join [extra]\n"),
        ("second/Acme.Tools-1.0.dist-info", f"[{group}]\nold = os\n"),
        ("second/plain.egg-info", f"[{group}]\nplain=json\n"),
        ("second/none-1.0.dist-info", ""),
    ):
        info = tmp_path / folder
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {info.name.partition('-')[0]}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(text)
    monkeypatch.setattr(
        sys, "path", [str(tmp_path / "first"), str(tmp_path / "second"), str(tmp_path / "no"), *sys.path]
    )
    found = {each.name: each for each in installed_plugins(group)}
    listed = importlib.metadata.entry_points(group=group)
    assert {name: each.value for name, each in found.items()} == {each.name: each.value for each in listed}
    assert found["shop"].load() is os.path.join
    assert found["plain"].load() is json


def test_tracing() -> None:
    """NOMAFLOW_TRACE_HOOKS writes a line for each call: implementations, arguments, result, time; never a secret."""
    trace = io.StringIO()
    hooks = hooks_of(environ={"NOMAFLOW_TRACE_HOOKS": "1"}, trace=trace)

    class Hostile:
        def __repr__(self) -> str:
            raise ValueError("no")

    class Plugin:
        @hookimpl
        def nomaflow_contribute_injections(self) -> dict[str, Any]:
            return {"token": "s3cret"}

        @hookimpl
        def nomaflow_contribute_settings(self) -> dict[str, Any]:
            return {"password": "s3cret"}

    hooks.add(Plugin(), name="acme")
    hooks.call.nomaflow_contribute_injections(call=CALL)
    hooks.call.nomaflow_contribute_settings()
    with pytest.raises(Exception, match=r"type .*Hostile"):
        hooks.call.nomaflow_normalise_return(value=Hostile(), call=CALL)
    lines = trace.getvalue().splitlines()
    assert len(lines) == 3
    assert "nomaflow_contribute_injections(call=StepCall(" in lines[0]
    assert "acme builtin.injecting]" in lines[0]
    assert " µs; " in lines[0]
    assert "whose repr raises ValueError" in lines[2] or "Hostile instance" in lines[2]
    assert "raised ReturnRefused" in lines[2]
    assert "s3cret" not in trace.getvalue()


@pytest.mark.parametrize("value", ["", "0"])
def test_tracing_is_off(value: str) -> None:
    """Tracing writes nothing without the variable, or with 0."""
    trace = io.StringIO()
    hooks_of(environ={"NOMAFLOW_TRACE_HOOKS": value}, trace=trace).call.nomaflow_step_types()
    assert trace.getvalue() == ""
