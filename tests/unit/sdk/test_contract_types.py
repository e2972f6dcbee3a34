"""The names that an author imports."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import json
import pickle
import subprocess
import sys

import pytest

import nomaflow
from nomaflow import PreviousStep, RunContext, Settings, StepCancelled, StepFailed, StepResult, Trigger


def test_import_is_light() -> None:
    """A fresh interpreter that imports nomaflow has loaded none of the heavy libraries."""
    code = (
        "import sys, nomaflow, nomaflow.hookspecs, nomaflow.calls;"
        "heavy = {'grpc', 'typer', 'pydantic', 'sqlalchemy', 'httpx', 'google', 'rich', 'asyncio'};"
        "print(sorted({name.split('.')[0] for name in sys.modules} & heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_name_is_exported() -> None:
    """The names of the authoring contract are importable from the root."""
    wanted = {"RunContext", "StepResult", "StepFailed", "StepCancelled", "ConnectorRegistry", "Settings", "Trigger"}
    assert wanted | {"hookimpl"} <= set(nomaflow.__all__)
    assert sorted(nomaflow.__all__) == nomaflow.__all__
    assert all(hasattr(nomaflow, name) for name in nomaflow.__all__)


def test_context_goes_to_other_processes() -> None:
    """A copy of a context asks as the original does; one that was pickled has its values, and is never cancelled."""
    trigger = Trigger("call_job", by="run_0")
    ctx = RunContext(run_id="run_1", trigger=trigger, params={"days": [1]}, cancel_check=lambda: True)
    for copied in (copy.copy(ctx), copy.deepcopy(ctx), pickle.loads(pickle.dumps(ctx))):
        assert copied == ctx
        assert copied.trigger.by == "run_0"
    assert copy.copy(ctx).is_cancelled()
    assert copy.deepcopy(ctx).is_cancelled()
    assert copy.deepcopy(ctx).params["days"] is not ctx.params["days"]
    assert not pickle.loads(pickle.dumps(ctx)).is_cancelled()


def test_context_needs_nothing() -> None:
    """A context is made of what a test needs, and everything else has a harmless default."""
    ctx = RunContext(run_id="run_1")
    assert (ctx.run_id, ctx.job_id, ctx.attempt, ctx.parent_chain, ctx.prev_rows_affected) == ("run_1", "", 1, (), None)
    assert ctx.is_cancelled() is False
    assert ctx.progress(1, 2, "half") is None
    assert ctx.previous_step("x") is None
    ctx.log.info("heard")
    with pytest.raises(dataclasses.FrozenInstanceError):
        ctx.run_id = "other"  # type: ignore[misc]  # the point of the test


def test_logging_that_a_module_configures_leaves_ctx_log_as_it_is() -> None:
    """A dictConfig before the first context, which disables each logger that there is, does not disable ctx.log."""
    code = (
        "import logging.config; from nomaflow import RunContext;"
        "logging.config.dictConfig({'version': 1, 'root': {'level': 'INFO'}});"
        "print(RunContext().log.isEnabledFor(logging.INFO))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"


def test_context_asks_and_tells() -> None:
    """is_cancelled and progress reach what was injected, previous_step finds by name."""
    told: list[tuple[float, float | None, str]] = []
    flags = iter([False, True])
    step = PreviousStep(name="load", state="SUCCEEDED", rows_affected=3, extras={"a": 1})
    ctx = RunContext(
        cancel_check=lambda: next(flags),
        progress_sink=lambda *args: told.append(args),
        previous_steps=(step,),
        trigger="cron",  # type: ignore[arg-type]  # plain text is a convenience for tests
        parent_chain=[("job", "run_0")],  # type: ignore[arg-type]  # the same
    )
    assert [ctx.is_cancelled(), ctx.is_cancelled()] == [False, True]
    ctx.progress(5, total=10, message="rows")
    assert told == [(5, 10, "rows")]
    assert ctx.previous_step("load") is step
    assert ctx.parent_chain == (("job", "run_0"),)
    assert isinstance(ctx.trigger, Trigger)


def test_trigger_is_its_kind() -> None:
    """A trigger compares, hashes, matches, prints and serialises as its kind, and carries who and when."""
    at = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    trigger = Trigger("cron", by="scheduler", at=at)
    assert trigger == "cron"
    assert {"cron": 1}[trigger] == 1
    assert trigger in {"cron", "api"}
    assert trigger == Trigger("cron", by="another")
    assert trigger != "api"
    assert (trigger.kind, trigger.by, trigger.at) == ("cron", "scheduler", at)
    assert f"{trigger} {trigger!s}" == "cron cron"
    assert json.dumps(trigger) == '"cron"'
    for twin in (copy.deepcopy(trigger), pickle.loads(pickle.dumps(trigger))):
        assert (twin, twin.by, twin.at) == ("cron", "scheduler", at)
    for action in (lambda: setattr(trigger, "by", "me"), lambda: delattr(trigger, "by")):
        with pytest.raises(AttributeError, match="read-only"):
            action()


def test_settings_read_like_attributes() -> None:
    """Nested tables are sections, lists are tuples, and the three standard sections are always there."""
    settings = Settings(app={"region": "eu", "mails": [{"to": "a"}]}, connectors={"config_path": "/x/connectors.toml"})
    assert settings.app.region == "eu"
    assert settings.app.mails[0].to == "a"
    assert settings["app"]["region"] == "eu"
    assert settings.connectors.config_path == "/x/connectors.toml"
    assert settings.jobs.config_path is None
    assert settings.get("nothing", 5) == 5
    assert "region" in settings.app
    assert list(settings) == ["app", "connectors", "jobs"]
    assert Settings(app=settings.to_dict()["app"]).app == settings.app
    assert pickle.loads(pickle.dumps(settings)) == copy.deepcopy(settings) == settings


def test_settings_are_read_only_and_helpful() -> None:
    """Settings cannot be set; an unknown name gets the near match or the known names as its answer."""
    settings = Settings(app={"region": "eu"})
    with pytest.raises(AttributeError, match=r"settings\.app is read-only"):
        settings.app.region = "us"
    with pytest.raises(AttributeError, match="read-only"):
        del settings.app
    with pytest.raises(AttributeError, match=r"settings\.app has no 'regon' \(did you mean 'region'\?\)"):
        _ = settings.app.regon
    with pytest.raises(KeyError, match="known: app, connectors, jobs"):
        _ = settings["zzz"]
    assert not hasattr(settings, "__deepcopy_me__")


def test_settings_as_a_dict() -> None:
    """A section is unpacked and walked through like a dict; a key of the file with the name of a method wins."""
    limits = Settings(app={"limits": {"eu": 5, "us": 7}, "keys": ["a"]}).app
    assert dict(limits.limits) == dict(**limits.limits) == dict(limits.limits.items()) == {"eu": 5, "us": 7}
    assert list(limits.limits.values()) == [5, 7]
    assert limits.keys == ("a",)


@pytest.mark.parametrize("name", ["password", "DB_PASSWD", "api_key", "apikey", "client_secret", "auth_token", "dsn"])
def test_settings_hide_secrets(name: str) -> None:
    """Values that look like secrets, at any depth and in URLs, are hidden in the repr but can be used."""
    settings = Settings(
        app={"deep": [{name: "s3cret"}], name: ["s3cret"], "url": "pg://u:s3cret@h/db?sslpassword=s3cret"}
    )
    assert "s3cret" not in repr(settings)
    assert "pg://u:***@h/db?sslpassword=***" in repr(settings)
    assert settings.app[name] == ("s3cret",)


def test_results_and_errors() -> None:
    """StepResult takes both of its fields by position; the two exceptions are ordinary ones with their message."""
    result = StepResult(5, {"a": 1})
    assert (result.rows_affected, result.extras) == (5, {"a": 1})
    assert StepResult() == StepResult(rows_affected=None, extras={})
    for kind in (StepFailed, StepCancelled):
        assert str(kind("why")) == "why"
        assert str(pickle.loads(pickle.dumps(kind("why")))) == "why"
