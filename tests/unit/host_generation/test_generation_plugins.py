"""A project's own plugins: every hook, and what happens where one is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from generation_orders import Project, order_of

from nomaflow import RunContext, StepFailed
from nomaflow.calls import StepCall
from nomaflow_host.injection.errors import PreparationFailed

CALL = StepCall(reference="m:f", kind="sync", ctx=RunContext())
_IMPORTS = "from nomaflow import hookimpl\nfrom nomaflow.calls import Factory, StepType\n"


PLUGIN = """
from nomaflow import StepResult, hookimpl
from nomaflow.calls import Factory, StepType
seen, made = [], []
@hookimpl
def nomaflow_resolve_callable(reference):
    if reference.startswith("virtual:"):
        return lambda **kw: reference
@hookimpl
def nomaflow_contribute_injections(call):
    return {"tenant": "t-" + call.ctx.run_id, "lazy": Factory(lambda: made.append(1) or "made")}
@hookimpl
def nomaflow_contribute_settings():
    return {"extra": {"a": 1}, "app": {"region": "plugin", "only": "plugin"}}
@hookimpl
def nomaflow_contribute_connectors():
    return {"ftp": lambda name, table, registry: name}
@hookimpl
def nomaflow_normalise_return(value, call):
    if isinstance(value, range):
        return StepResult(len(value))
@hookimpl
def nomaflow_attempt_started(call): seen.append(("started", call.reference))
@hookimpl
def nomaflow_attempt_finished(call, outcome): raise SystemExit(3)
@hookimpl
def nomaflow_step_types():
    return [StepType(name="http", callable="acme:request", schema={"type": "object"}, doc="Call.")]
def request(*, url: str): ...
def wants(*, tenant, lazy): return range(4)
def plain(*, n=1): return range(2)
"""


def test_plugin_on_every_hook(project: Project, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A module of the plugins folder takes part in every hook."""
    (tmp_path / "nomaflow.toml").write_text('[app]\nregion = "file"')
    generation = project({"acme.py": PLUGIN}, settings_file=str(tmp_path / "nomaflow.toml"))
    acme = sys.modules["acme"]
    manifest = generation.manifest()
    assert manifest["step_types"] == [
        {
            "name": "http",
            "callable": "acme:request",
            "schema": {"type": "object"},
            "doc": "Call.",
            "overridable": [],
            "secret": [],
            "checked": False,
        }
    ]
    assert "acme:nomaflow_step_types" not in manifest["callables"]
    settings = generation.settings()
    assert (settings.extra.a, settings.app.region, settings.app.only) == (1, "file", "plugin")
    plain = generation.prepare(order_of("acme:plain"), environ={})
    assert acme.made == []
    wants = generation.prepare(order_of("acme:wants"), environ={})
    assert acme.made == [1]
    assert generation.calls.normalise(wants.call(), call=wants.info).rows_affected == 4
    assert generation.calls.normalise(plain.call(), call=plain.info).rows_affected == 2
    virtual = generation.prepare(order_of("virtual:anything"), environ={})
    assert virtual.call() == "virtual:anything"
    from nomaflow_project.connectors.connector_set import ConnectorSet

    registry = generation.registry(ConnectorSet(connectors={"f": {"type": "ftp"}}))
    assert registry.connector("f") == "f"
    from nomaflow.calls import StepOutcome

    generation.calls.observe(plain.info)
    generation.calls.observe(plain.info, StepOutcome(state="SUCCEEDED"))
    assert acme.seen == [("started", "acme:plain")]
    assert "nomaflow_attempt_finished raised" in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        "raise ValueError('broken')",
        "return 5",
        "return [StepType(name='x', callable='m:f', schema={1: object()})]",
        "return ['x']",
    ],
)
def test_broken_step_types_are_problems(project: Project, body: str) -> None:
    """A plugin whose step types cannot be used is a problem of the manifest, and stops nothing."""
    hook = f"{_IMPORTS}@hookimpl\ndef nomaflow_step_types(): {body}\n"
    manifest = project({"p.py": hook + "def f(): ..."}).manifest()
    assert manifest["step_types"] == []
    assert [problem["code"] for problem in manifest["problems"]] == ["hook_failed"]
    assert list(manifest["callables"]) == ["p:f"]
    json.dumps(manifest)


@pytest.mark.parametrize(
    ("hook", "code"),
    [
        ("def nomaflow_contribute_injections(call): raise ValueError('broken')", "hook_failed"),
        ("def nomaflow_resolve_callable(reference): raise ValueError('broken')", "hook_failed"),
        (
            "def nomaflow_contribute_injections(): return {'x': Factory(lambda: 1/0)}",
            "hook_failed",
        ),
    ],
)
def test_raising_hooks_fail_the_attempt(project: Project, hook: str, code: str) -> None:
    """A hook that raises fails the attempt before the call, with its text and place."""
    generation = project({"p.py": f"{_IMPORTS}@hookimpl\n{hook}\ndef f(**kw): ..."})
    with pytest.raises(PreparationFailed) as caught:
        generation.prepare(order_of("p:f"), environ={})
    assert caught.value.reason_code == code
    assert "p.py:" in caught.value.message


@pytest.mark.parametrize(("offer", "words"), [("[1]", "must be a mapping, not list"), ("{1: 2}", "must be strings")])
def test_an_offer_that_is_no_mapping_of_names_is_the_plugin_s_failure(project: Project, offer: str, words: str) -> None:
    """The attempt fails before the call, and the error tells that a plugin injects what cannot be injected."""
    source = f"{_IMPORTS}@hookimpl\ndef nomaflow_contribute_injections(): return {offer}\ndef f(**kw): ..."
    with pytest.raises(PreparationFailed, match=f"a plugin failed to inject: TypeError: .*{words}") as caught:
        project({"p.py": source}).prepare(order_of("p:f"), environ={})
    assert caught.value.reason_code == "hook_failed"


def test_a_declared_field_is_no_misspelling(project: Project) -> None:
    """A field that a step type declares reaches the callable's ``**``, however near it is to a parameter's name."""
    types = "[StepType(name='t', callable='p:f', schema={'properties': {'timeouts': {}}})]"
    source = f"{_IMPORTS}def f(*, timeout=1, **fields): return fields\n"
    generation = project({"p.py": f"{source}@hookimpl\ndef nomaflow_step_types(): return {types}\n"})
    order = order_of("p:f", kwargs_json='{"timeouts":3}', strict_keys=("timeouts",))
    assert generation.prepare(order, environ={}).call()["timeouts"] == 3
    order = order_of("p:f", kwargs_json='{"timeoutt":3}', strict_keys=("timeoutt",))
    with pytest.raises(PreparationFailed, match="did you mean 'timeout'"):
        generation.prepare(order, environ={})


def test_bad_normalisers_refuse_the_return(project: Project) -> None:
    """A normaliser that raises or answers with something else is a StepFailed."""
    for body, words in (("1/0", "ZeroDivisionError"), ("return 5", "to int, expected StepResult")):
        name = f"n{len(words)}"
        generation = project(
            {f"{name}.py": f"from nomaflow import hookimpl\n@hookimpl\ndef nomaflow_normalise_return(): {body}"}
        )
        with pytest.raises(StepFailed, match=words):
            generation.calls.normalise(None, call=CALL)
        (Path(generation.spec.root) / "plugins" / f"{name}.py").unlink()
