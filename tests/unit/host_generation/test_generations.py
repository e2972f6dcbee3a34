"""One load of a project: what is found, what is offered, what is refused, and calls from orders."""

from __future__ import annotations

import copy
import datetime as dt
import json
import os
import pickle
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from generation_orders import Project, order_of

from nomaflow import StepFailed
from nomaflow_host.generation.contexts import context_of
from nomaflow_host.generation.spec import ProjectSpec
from nomaflow_host.injection.errors import PreparationFailed
from nomaflow_host.worker.outcome import author_traceback

WORK = '''
from __future__ import annotations
async def purge(*, ctx, apps_id: int, max_age_days: int = 30, **_) -> dict:
    """Purge sessions.

    More.
    """
    return {"rows_affected": apps_id, "run": ctx.run_id}
def export(*, path: str = "x"): return 3
def _hidden(): ...
def numbers(): yield 1
class Thing: ...
from os.path import join
'''


PURGE = {
    "kind": "async",
    "doc": "Purge sessions.",
    "file": "plugins/myapp/cleanup.py",
    "line": 3,
    "parameters": [
        {"name": "ctx", "kind": "keyword", "required": True, "annotation": "", "default": ""},
        {
            "name": "apps_id",
            "kind": "keyword",
            "required": True,
            "annotation": "int",
            "default": "",
            "schema": {"type": "integer"},
        },
        {
            "name": "max_age_days",
            "kind": "keyword",
            "required": False,
            "annotation": "int",
            "default": "30",
            "default_json": "30",
            "schema": {"type": "integer"},
        },
    ],
    "catch_all": "_",
    "error": None,
}


def test_manifest(project: Project, tmp_path: Path) -> None:
    """The manifest has the decided form: public functions, what jobs name, modules with their errors."""
    generation = project(
        {
            "myapp/cleanup.py": WORK,
            "single.py": "def f(): ...",
            "broken.py": "1/0",
            "pkg/__init__.py": "",
            "pkg/a/b.py": "",
        },
        "myapp.cleanup:purge",
        "myapp.cleanup:numbers",
        "nowhere:f",
        "json:dumps",
    )
    manifest = generation.manifest()
    assert list(manifest) == [
        "manifest_version", "host", "nomaflow_version", "python", "version", "max_parallel", "accept_jobs_from",
        "accept_calls_from", "callables", "modules",
        "step_types", "injections", "env_files", "job_files", "problems",
    ]  # fmt: skip
    assert (manifest["manifest_version"], manifest["host"]) == (1, "demo")
    assert sorted(manifest["callables"]) == [
        "json:dumps", "myapp.cleanup:export", "myapp.cleanup:numbers", "myapp.cleanup:purge", "nowhere:f", "single:f",
    ]  # fmt: skip
    assert manifest["callables"]["myapp.cleanup:purge"] == PURGE
    assert manifest["callables"]["myapp.cleanup:export"]["parameters"][0]["default"] == "'x'"
    assert "is a generator" in manifest["callables"]["myapp.cleanup:numbers"]["error"]
    assert "no module 'nowhere'" in manifest["callables"]["nowhere:f"]["error"]
    modules = manifest["modules"]
    assert sorted(modules) == ["broken", "json", "myapp.cleanup", "nowhere", "pkg", "pkg.a.b", "single"]
    assert "ZeroDivisionError: division by zero" in modules["broken"]["error"]
    assert "1/0" in modules["broken"]["traceback"]
    assert modules["broken"]["file"].endswith(".py")
    assert modules["broken"]["line"] > 0
    assert modules["single"] == {"error": None, "traceback": "", "file": "", "line": 0}
    kinds = {reference: entry["kind"] for reference, entry in manifest["callables"].items()}
    assert (kinds["myapp.cleanup:purge"], kinds["myapp.cleanup:export"]) == ("async", "sync")
    json.dumps(manifest)


def test_each_import_is_alone(project: Project) -> None:
    """Modules that raise, exit, interrupt or cannot be parsed are recorded; their neighbours are offered."""
    generation = project(
        {
            "a_exit.py": "import sys; sys.exit(3)",
            "b_syntax.py": "def f(:",
            "c_interrupt.py": "raise KeyboardInterrupt",
            "d_package/__init__.py": "raise RuntimeError('no')",
            "d_package/inner.py": "def f(): ...",
            "e_dependent.py": "import a_exit",
            "f_nul.py": "x = '\0'",
            "test_skipped.py": "1/0",
            "conftest.py": "1/0",
            "tests/t.py": "1/0",
            "not-a-name.py": "1/0",
            ".hidden/h.py": "1/0",
            "g_good.py": "def f(): ...",
        }
    )
    manifest = generation.manifest()
    assert list(manifest["callables"]) == ["g_good:f"]
    failed = {name for name, module in manifest["modules"].items() if module["error"]}
    assert failed == {"a_exit", "b_syntax", "c_interrupt", "d_package", "d_package.inner", "e_dependent", "f_nul"}


def test_a_module_that_no_job_names_is_told_once(project: Project) -> None:
    """A warning names it with its line; a job's own problem tells of the others, as does that of their package."""
    broken = "def f():\n    return 1\n1/0\n"
    files = {"used.py": broken, "unused.py": broken, "p/__init__.py": broken, "p/a.py": broken, "q/__init__.py": broken}
    (told, of_package) = project({**files, "q/a.py": ""}, "used:f", "q.a:f").manifest()["problems"][::-1]
    assert (told["severity"], told["code"], told["file"], told["line"]) == (
        "warning",
        "import_failed",
        "plugins/unused.py",
        3,
    )
    assert told["message"] == "the module 'unused' cannot be imported: ZeroDivisionError: division by zero"
    assert of_package["file"] == "plugins/p/__init__.py"


def test_hidden_modules(project: Project) -> None:
    """A plugin named like a module of the standard library, or in a folder that is, is reported and hides nothing."""
    names = ("json", "colorsys", "email.to.send", "queue.send")
    generation = project({f"{name.replace('.', '/')}.py": "def f(): ..." for name in names})
    modules = generation.manifest()["modules"]
    for name in names:
        assert (
            f") is hidden by another {name.partition('.')[0]!r}, {sysconfig.get_path('stdlib')}"
            in modules[name]["error"]
        )
    assert generation.manifest()["callables"] == {}


def test_a_link_to_nothing_is_no_module(project: Project, tmp_path: Path) -> None:
    """It was told as hidden by its own folder, "a built-in module"."""
    (tmp_path / "plugins" / "shop").mkdir(parents=True)
    (tmp_path / "plugins" / "shop" / "gone.py").symlink_to("nowhere.py")
    assert list(project({"shop/orders.py": ""}).manifest()["modules"]) == ["shop.orders"]


def test_manifest_is_the_same_for_the_same_code(tmp_path: Path) -> None:
    """Two interpreters with other hash seeds give the same bytes, whatever defaults and messages hold."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "m.py").write_text(
        "from decimal import Decimal\n"
        "o = object()\n"
        "def f(*, a=o, b=frozenset({'x', 'y', 'z'}), c=[1, 'a'], d=len, e: 'set' = None, "
        "f=10**5000, g=Decimal('0.50')): ...\n"
    )
    (plugins / "n.py").write_text("raise ValueError(object())")
    spec = ProjectSpec(host="h", root=str(tmp_path), sys_path=(str(plugins),), plugin_dirs=(str(plugins),))
    code = (
        "import json, sys; from nomaflow_host.generation.generation import load_generation\n"
        "from nomaflow_host.generation.manifest import manifest_bytes\n"
        "from nomaflow_host.generation.spec import ProjectSpec\n"
        "g = load_generation(ProjectSpec.from_json(json.loads(sys.argv[1])))\n"
        "sys.stdout.buffer.write(manifest_bytes(g.manifest()))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-P", "-c", code, json.dumps(spec.to_json())],
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(seen) == 1
    defaults = {p["name"]: p["default"] for p in json.loads(seen.pop())["callables"]["m:f"]["parameters"]}
    assert defaults["a"] == "<object>"
    assert defaults["b"] == "<frozenset>"
    assert defaults["c"] == "[1, 'a']"
    assert defaults["g"] == "Decimal('0.50')"


def test_template_stays_light(tmp_path: Path) -> None:
    """Loading plugins that need nothing leaves one thread, and neither gRPC, pydantic, SQLAlchemy nor httpx."""
    (tmp_path / "m.py").write_text("def f(*, n: int): ...")
    code = (
        "import os, sys; from nomaflow_host.generation.generation import load_generation\n"
        "from nomaflow_host.generation.spec import ProjectSpec\n"
        f"p = {str(tmp_path)!r}\n"
        "load_generation(ProjectSpec(host='h', root=p, sys_path=(p,), plugin_dirs=(p,), named_callables=('m:f',)))\n"
        "heavy = {'grpc', 'pydantic', 'sqlalchemy', 'httpx', 'google'} & set(sys.modules)\n"
        "print(sorted(heavy), len(os.listdir('/proc/self/task')))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] 1"


def test_spec_survives_json() -> None:
    """A spec comes back from JSON, keys of a newer version passed over."""
    spec = ProjectSpec(
        host="h", root="/r", sys_path=("/p",), named_callables=("m:f",), job_files=({"path": "j", "tree": {}},)
    )
    assert ProjectSpec.from_json({**json.loads(json.dumps(spec.to_json())), "newer": 1}) == spec


async def test_order_to_result(project: Project) -> None:
    """An order becomes a call with its values decoded, resolved and coerced, and its return a record."""
    generation = project({"myapp/cleanup.py": WORK})
    order = order_of(
        "myapp.cleanup:purge",
        kwargs_json='{"apps_id":" ${APPS} ","max_age_days":7,"when":{"$date":"2026-01-31"}}',
        strict_keys=("apps_id",),
    )
    prepared = generation.prepare(order, environ={"APPS": "12"})
    assert (prepared.kind, prepared.info.reference) == ("async", "myapp.cleanup:purge")
    assert prepared.location.endswith("cleanup.py:3")
    value = await prepared.call()
    record = generation.calls.normalise(value, call=prepared.info)
    assert (record.rows_affected, record.extras_json) == (12, b'{"run":"run_1"}')


def test_context_of_an_order() -> None:
    """ctx carries everything the order says."""
    began = dt.datetime.now(dt.UTC)
    flag: list[bool] = []
    ctx = context_of(
        order_of(
            "m:f",
            params_json='{"region":"${R:-eu}","day":{"$date":"2026-01-31"}}',
            trigger_kind="cron",
            trigger_by="scheduler",
            trigger_at_us=1_767_225_600_000_001,
            prev_rows_affected=4,
            parent_chain=(("root", "run_0"),),
            previous_steps_json='[{"name":"load","state":"SUCCEEDED","rows_affected":4,"extras":{"$date":"kept"}}]',
            timeout_ms=1500,
            log_level="DEBUG",
        ),
        environ={},
        cancel_check=lambda: bool(flag),
    )
    assert (ctx.run_id, ctx.job_id, ctx.step_name, ctx.attempt, ctx.attempt_key) == (
        "run_1",
        "job",
        "step",
        1,
        "run_1/step/1",
    )
    assert ctx.trigger == "cron"
    assert ctx.trigger.by == "scheduler"
    assert ctx.trigger.at == dt.datetime(2026, 1, 1, microsecond=1, tzinfo=dt.UTC)
    assert ctx.params == {"region": "eu", "day": dt.date(2026, 1, 31)}
    assert (ctx.prev_rows_affected, ctx.parent_chain, ctx.log_level) == (4, (("root", "run_0"),), "DEBUG")
    assert began <= ctx.deadline - dt.timedelta(seconds=1.5) <= dt.datetime.now(dt.UTC)
    step = ctx.previous_step("load")
    assert step is not None
    assert step.extras == {"$date": "kept"}
    assert ctx.is_cancelled() is False
    flag.append(True)
    assert ctx.is_cancelled() is True


def test_extras_that_the_kernel_left_out_are_not_taken_for_none() -> None:
    """A step that reads them fails and is told why; its copies of ctx know, too; the others are as they were."""
    steps = '[{"name":"small","state":"SUCCEEDED","rows_affected":1,"extras":{"table":"orders"}},'
    steps += '{"name":"load","state":"SUCCEEDED","rows_affected":4,"extras":{},"extras_omitted":true}]'
    ctx = context_of(order_of("m:f", previous_steps_json=steps), environ={})
    for each in (ctx, copy.deepcopy(ctx), pickle.loads(pickle.dumps(ctx))):
        small, load = each.previous_steps
        assert (small.extras["table"], load.rows_affected) == ("orders", 4)
        for read in (dict, len, lambda extras: extras.get("table"), lambda extras: "table" in extras):
            with pytest.raises(StepFailed, match=r"extras of step 'load' are not passed on: .* more than 512 KiB"):
                read(load.extras)
        with pytest.raises(StepFailed):
            _ = load.child_run_id


@pytest.mark.parametrize(
    ("rest", "code", "words"),
    [
        ({"callable": "myapp.cleanup:purgee"}, "callable_not_found", "did you mean 'purge'"),
        ({"callable": "myapp.cleenup:purge"}, "callable_not_found", "did you mean 'myapp.cleanup'"),
        ({"callable": "../x:f"}, "reference_invalid", "'../x:f' does not name a callable: it is a file path"),
        ({"callable": "bad:f"}, "import_failed", "RuntimeError: at import"),
        ({"callable": "myapp.cleanup:Thing"}, "callable_unsupported", "is a class"),
        ({"kwargs_json": "{}"}, "argument_missing", "'apps_id'"),
        ({"kwargs_json": "[1]"}, "value_invalid", "expected an object, got list"),
        ({"kwargs_json": "{"}, "value_invalid", "not JSON"),
        ({"kwargs_json": b"\xff\xff"}, "value_invalid", "the arguments cannot be read"),
        ({"kwargs_json": '{"apps_id":' + "[" * 100_000}, "value_invalid", "64 levels"),
        ({"kwargs_json": '{"apps_id":1,"apps_id":2}'}, "value_invalid", "occurs twice"),
        (
            {"kwargs_json": '{"apps_id":"${NOPE}"}'},
            "environment_missing",
            "op_kwargs.apps_id: the environment variable 'NOPE'",
        ),
        ({"kwargs_json": '{"apps_id":"many"}'}, "value_invalid", "apps_id = 'many'"),
        ({"params_json": '{"p":"${NOPE}"}'}, "environment_missing", "params.p: "),
    ],
)
def test_orders_that_cannot_start(project: Project, rest: dict[str, Any], code: str, words: str) -> None:
    """Each mistake is answered before the call, by name, and is a known reason."""
    generation = project({"myapp/cleanup.py": WORK, "bad.py": "raise RuntimeError('at import')"})
    given = {"callable": "myapp.cleanup:purge", "kwargs_json": '{"apps_id":1}', "strict_keys": ("apps_id",), **rest}
    with pytest.raises(PreparationFailed) as caught:
        generation.prepare(order_of(given.pop("callable"), **given), environ={})
    assert caught.value.reason_code == code
    assert words in caught.value.message
    assert "\n" not in caught.value.message


def test_sync_wrapper_of_a_coroutine(project: Project) -> None:
    """A plain wrapper of a coroutine function is sync, and the coroutine it hands back is run to its end."""
    generation = project(
        {
            "w.py": "import functools\n"
            "def deco(f):\n  @functools.wraps(f)\n  def wrapper(*a, **k): return f(*a, **k)\n  return wrapper\n"
            "@deco\nasync def work(*, n: int): return n\n"
            "@deco\nasync def fails(): raise SystemExit(3)\n"
            "def plain(*, n: int): return n\n"
            "@functools.wraps(plain)\nasync def around(**k): return plain(**k)\n"
            "def stops(): raise StopIteration\n"
        }
    )
    prepared = generation.prepare(order_of("w:work", kwargs_json='{"n":"5"}'), environ={})
    assert prepared.kind == "sync"
    assert prepared.call() == 5
    asked = {
        name: generation.prepare(order_of(f"w:{name}", kwargs_json='{"n":5}'), environ={}).askable
        for name in ("work", "around", "plain")
    }
    assert asked == {"work": True, "around": True, "plain": False}
    with pytest.raises(SystemExit) as raised:
        generation.prepare(order_of("w:fails"), environ={}).call()
    assert "asyncio" not in author_traceback(raised.value)
    with pytest.raises(RuntimeError, match="raised StopIteration"):
        generation.prepare(order_of("w:stops"), environ={}).call()


def test_settings_follow_the_file(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings are read again when nomaflow.toml changed, stay the last good ones while it is malformed."""
    file = tmp_path / "nomaflow.toml"
    main = {"app": {"region": "main"}, "connectors": {"config_path": "/c"}, "jobs": {"config_path": "/j"}}
    generation = project({}, settings_file=str(file), settings=main)
    first = generation.settings()
    assert first.to_dict() == main
    assert first is generation.settings()
    file.write_text('[app]\nregion = "${REGION}"\n[connectors]\nconfig_path = "conf/c.toml"\n')
    monkeypatch.setenv("REGION", "eu")
    second = generation.settings()
    assert second.app.region == "eu"
    assert second.connectors.config_path == str(tmp_path / "conf/c.toml")
    assert second.jobs.config_path == str(tmp_path / "jobs.toml")
    for bad in ("[app", '[app]\nregion = "${NOPE}"\nx = 1', "app = 5", "[jobs]\nconfig_path = 5"):
        file.write_text(bad)
        assert generation.settings().app.region == "eu"
    file.unlink()
    assert generation.settings().app.region == "eu"
    file.write_text('[app]\nregion = "us"')
    assert generation.settings().app.region == "us"
    without = project({}).settings()
    assert without.connectors.config_path == str(tmp_path / "connectors.toml")


def test_a_call_gets_the_context_and_the_settings(project: Project) -> None:
    """The context is that of the order, with the caller's functions; the registry is the caller's, here none."""
    generation = project({"k.py": "def f(*, ctx, settings, connectors): return [ctx, settings, connectors]"})
    ctx, settings, connectors = generation.prepare(order_of("k:f"), environ={}, cancel_check=lambda: True).call()
    assert (ctx.run_id, ctx.is_cancelled(), connectors) == ("run_1", True, None)
    assert settings is generation.settings()
