"""The pages for authors: every example runs, every name and hook is there."""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import io
import json
import logging
import os
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import nomaflow
import nomaflow.testing
from cli_command import run_as_given
from document_examples import DOCS, console_examples, examples_of, write_project
from nomaflow import RunContext, Settings, hookspecs
from nomaflow.calls import StepCall, StepOutcome
from nomaflow.testing import CallableOutcome, connectors_from, run_callable
from nomaflow_api.v1.letters import AttemptOrder
from nomaflow_api.v1.lossless_json import decode_tree
from nomaflow_cli.lint.module_source import FIXES
from nomaflow_cli.lint.project import lint_project
from nomaflow_host.connectors.registry import HostConnectorRegistry
from nomaflow_host.generation.generation import Generation, load_generation
from nomaflow_host.generation.settings import settings_tree
from nomaflow_host.hooks.installed_plugins import EntryPoint
from nomaflow_host.hooks.manager import build_hooks
from nomaflow_host.project.project import Project
from nomaflow_project.check.project import CheckReport, check_project
from nomaflow_project.jobs.definitions import JobDefinition, StepDefinition

Result = tuple[str, int | None, dict[str, Any]]

PAGES = ("plugin_guide.md", "hooks.md", "migrating.md")

GUIDE: Mapping[str, Result] = {
    "shop.hello:hello": ("SUCCEEDED", 0, {}),
    "shop.orders:fill_orders": ("SUCCEEDED", 90, {}),
    "shop.orders:archive_orders": ("SUCCEEDED", 30, {"older_than_days": 60}),
    "shop.prices:change_prices": (
        "SUCCEEDED",
        None,
        {
            "floor": "0.05",
            "hours": 6.0,
            "mode": "all",
            "shops": [1, 2],
            "factor": 1.5,
            "since": "2026-01-31",
            "percent": 20,
            "rounds": 1,
            "dry_run": True,
            "limit": 100,
        },
    ),
    "shop.summary:summarise": ("SUCCEEDED", None, {"archived": None, "by_hand": True, "region": "us"}),
    "shop.customers:refresh_customer": ("SUCCEEDED", 1, {"name": "Ann, number 7"}),
    "shop.where:where": (
        "SUCCEEDED",
        None,
        {"region": "eu", "orders": 500, "file": "connectors.toml", "colour": "none"},
    ),
    "shop.shapes:nothing": ("SUCCEEDED", None, {}),
    "shop.shapes:count": ("SUCCEEDED", 3, {}),
    "shop.shapes:counted_with_details": ("SUCCEEDED", 3, {"table": "orders_2026"}),
    "shop.shapes:verbatim": ("SUCCEEDED", 3, {"table": "orders_2026"}),
    "shop.shapes:wrong": ("FAILED", None, {}),
    "shop.stock:check_stock": ("FAILED", None, {}),
    "shop.payments:pay_out": ("SUCCEEDED", 1, {}),
    "shop.images:hash_images": ("SUCCEEDED", None, {}),
    "shop.images:upload_images": ("SUCCEEDED", None, {"uploaded": 1000}),
    "shop.talking:talk": ("SUCCEEDED", None, {}),
}

HOOKS: Mapping[str, Result] = {
    "query:create": ("SUCCEEDED", 0, {}),
    "query:add": ("SUCCEEDED", 1, {}),
    "shop.pricing:show": ("SUCCEEDED", None, {"tenant": "us", "currency": "USD"}),
    "shop.exporting:export": ("SUCCEEDED", None, {"file": "/srv/exports/orders.csv"}),
    "shop.paging:page": ("SUCCEEDED", None, {"page_size": 50, "region": "eu"}),
    "shop.counting:count": ("SUCCEEDED", None, {"items": 3, "shelf": "A7"}),
    "shopkit.step_types:announce": ("SUCCEEDED", None, {"said": "#orders: done"}),
}


@pytest.fixture
def forget_modules() -> Iterator[None]:
    """Take back what an import of the examples leaves in this process."""
    modules, path = dict(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - set(modules):
        if name.split(".")[0] in ("shop", "shopkit", "reports"):
            del sys.modules[name]


@pytest.fixture
def crm() -> Iterator[str]:
    """Serve the customers of the guide's example; yield the address."""

    class Customers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"name": f"Ann, number {self.path.rpartition('/')[2]}"}).encode()
            self.send_response(200 if self.headers["Authorization"] == "Bearer none" else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Customers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def checked(root: Path) -> CheckReport:
    """Return what ``nomaflow check`` finds, with the manifest that a real host makes of the project."""
    command = [sys.executable, "-P", "-m", "nomaflow_host", "--manifest", "--project", str(root)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=240)
    return check_project(root, manifest=json.loads(done.stdout))


def steps_of(report: CheckReport) -> Iterator[tuple[JobDefinition, StepDefinition]]:
    """Yield the steps of all jobs that call something, in order."""
    for job in report.jobs:
        assert job.definition is not None
        yield from ((job.definition, step) for step in job.definition.steps if step.callable)


def assert_in_order(root: Path, report: CheckReport) -> None:
    """Check that no example has an error, warning or pitfall, and every public function of the plugins is a step."""
    assert [str(problem) for problem in report.all_problems()] == []
    named = [step.callable for _, step in steps_of(report)]
    assert lint_project(root, named) == ()
    for file in sorted((root / "plugins").rglob("*.py")):
        module = ".".join(file.relative_to(root / "plugins").with_suffix("").parts)
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("nomaflow_"):
                assert f"{module}:{node.name}" in named


async def run_steps(root: Path, report: CheckReport) -> dict[str, CallableOutcome]:
    """Run every step of a project, with its real connectors and settings, and return how each callable ended."""
    sys.path.insert(0, str(root / "plugins"))
    settings_file = root / "nomaflow.toml"
    tree = tomllib.loads(settings_file.read_text(encoding="utf-8")) if settings_file.exists() else {}
    settings = Settings(settings_tree(tree, root=str(root), environ=os.environ))
    registry = connectors_from(root / "connectors.toml")
    assert isinstance(registry, HostConnectorRegistry)
    outcomes: dict[str, CallableOutcome] = {}
    try:
        for job, step in steps_of(report):
            outcomes[step.callable] = await run_callable(
                step.callable,
                op_kwargs=decode_tree(step.op_kwargs),
                params=decode_tree(job.params),
                ctx=RunContext(run_id="run_1", job_id=job.id, step_name=step.name),
                connectors=registry,
                settings=settings,
            )
    finally:
        await registry.aclose()
    return outcomes


@pytest.mark.usefixtures("forget_modules")
async def test_guide_examples(tmp_path: Path, crm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every callable of the guide runs as its job says, on real pools and a real service, and ends as described."""
    monkeypatch.setenv("SHOP_CRM_URL", crm)
    write_project("plugin_guide.md", tmp_path)
    report = await asyncio.to_thread(checked, tmp_path)
    assert_in_order(tmp_path, report)
    outcomes = await run_steps(tmp_path, report)
    digest = outcomes["shop.images:hash_images"].extras["digest"]
    assert re.fullmatch("[0-9a-f]{64}", digest)
    expected = {**GUIDE, "shop.images:hash_images": ("SUCCEEDED", None, {"digest": digest})}
    assert {name: (each.state, each.rows_affected, each.extras) for name, each in outcomes.items()} == expected
    assert outcomes["shop.stock:check_stock"].error == "no items are left - check the supplier's feed"
    assert outcomes["shop.shapes:wrong"].reason_code == "return_invalid"
    assert outcomes["shop.talking:talk"].logs == ["started by nobody", "2 things to do"]


def test_guide_tests_pass(tmp_path: Path) -> None:
    """The guide's own tests pass in a pytest of their own."""
    write_project("plugin_guide.md", tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    environ = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}  # ours are not theirs
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=240)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert re.search(r"^5 passed", done.stdout, re.MULTILINE), done.stdout


def test_guide_commands(tmp_path: Path) -> None:
    """The commands that the guide shows with their output print it, one after the other."""
    write_project("plugin_guide.md", tmp_path)
    shown = console_examples("plugin_guide.md")
    assert shown
    for command, output in shown:
        done = run_as_given(*shlex.split(command)[1:], folder=tmp_path, env=os.environ)
        assert done.code == 0, done
        assert [line.rstrip() for line in done.out.rstrip("\n").split("\n")] == output.rstrip("\n").split("\n")


def test_guide_names_everything_public() -> None:
    """Each name of `nomaflow` and `nomaflow.testing`, and each field of what authors are given, is in the guide."""
    text = (DOCS / "plugin_guide.md").read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    context = [each.name for each in dataclasses.fields(RunContext)]
    context += [name for name, value in vars(RunContext).items() if callable(value) and not name.startswith("_")]
    assert [name for name in context if f"`ctx.{name}" not in prose] == []
    names = [*nomaflow.__all__, *(each.name for each in dataclasses.fields(CallableOutcome))]
    assert [name for name in names if not re.search(rf"`{name}\b", prose)] == []
    assert [name for name in nomaflow.testing.__all__ if not re.search(rf"\b{name}\b", text)] == []


def test_guide_pitfalls_are_the_rules() -> None:
    """The table of pitfalls has each mistake that the lint finds, with its way out."""
    text = (DOCS / "plugin_guide.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(NF\d+)` \| .+ \| .+ \| (.+) \|$", text, re.MULTILINE)
    assert rows == [*FIXES.items()]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Each link of a page to another page, or to a heading, is to one that exists."""
    for target, anchor in re.findall(r"\]\(([\w./]*)(?:#([\w-]+))?\)", (DOCS / page).read_text(encoding="utf-8")):
        linked = DOCS / (target or page)
        assert linked.is_file(), target
        headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
        slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in slugs, (target, anchor)


@pytest.mark.usefixtures("forget_modules")
async def test_migrating_examples(tmp_path: Path) -> None:
    """Code and files of the original are in order as they are, and run."""
    write_project("migrating.md", tmp_path)
    report = await asyncio.to_thread(checked, tmp_path)
    assert_in_order(tmp_path, report)
    outcomes = await run_steps(tmp_path, report)
    assert {name: (each.state, each.rows_affected, each.extras) for name, each in outcomes.items()} == {
        "reports.monthly:summarise": ("SUCCEEDED", 1, {"tenant": 10}),
        "reports.audit:audit": ("SUCCEEDED", 0, {"tenant": 11, "strict": False, "fired_by": "manual"}),
    }
    summary = report.jobs[0].definition
    assert summary is not None
    assert [step.name for step in summary.steps] == ["summarise", "audit", "then"]
    assert summary.retry.attempts == 3


def documented_hooks() -> dict[str, str]:
    """Return hook to its section of the page."""
    text = (DOCS / "hooks.md").read_text(encoding="utf-8")
    sections = re.split(r"^## (nomaflow_\w+)$", text, flags=re.MULTILINE)[1:]
    return dict(zip(sections[::2], sections[1::2], strict=True))


def test_hooks_page_has_every_hook() -> None:
    """Each hook is on the page, in order, with its signature; if the first result counts, it says so."""
    source = Path(hookspecs.__file__).read_text(encoding="utf-8")
    specs = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    sections = documented_hooks()
    assert list(sections) == [spec.name for spec in specs]
    for spec in specs:
        assert spec.returns is not None
        signature = f"{spec.name}({ast.unparse(spec.args)}) -> {ast.unparse(spec.returns)}"
        assert f"```text\n{signature}\n```" in sections[spec.name]
        options = getattr(hookspecs, spec.name).nomaflow_spec
        assert ("The first result that is not None counts" in sections[spec.name]) is bool(options["firstresult"])
    text = "".join(sections.values())
    for kind in (StepCall, StepOutcome):
        assert [each.name for each in dataclasses.fields(kind) if f"`{each.name}`" not in text] == []


def test_hooks_page_has_an_example_of_every_hook() -> None:
    """The examples implement each hook."""
    code = "\n".join(example.text for example in examples_of("hooks.md") if example.language == "python")
    implemented = set(re.findall(r"^@hookimpl\ndef (nomaflow_\w+)\(", code, re.MULTILINE))
    assert implemented == {name for name in vars(hookspecs) if name.startswith("nomaflow_")}


def order_of(job: JobDefinition, step: StepDefinition) -> AttemptOrder:
    """Return the order of a first attempt."""
    return AttemptOrder(
        attempt_key=f"run_1/{step.name}/1",
        run_id="run_1",
        job_id=job.id,
        step=step.name,
        attempt=1,
        callable=step.callable,
        kwargs_json=json.dumps({**job.params, **step.op_kwargs}).encode(),
        strict_keys=tuple(step.op_kwargs),
        params_json=json.dumps(dict(job.params)).encode(),
    )


async def attempt(generation: Generation, registry: HostConnectorRegistry, order: AttemptOrder) -> Result:
    """Make one attempt as a worker does, hooks included."""
    call = generation.prepare(order, environ={}, connectors=registry)
    generation.calls.observe(call.info)
    value = await call.call() if call.kind == "async" else await asyncio.to_thread(call.call)
    result = generation.calls.normalise(value, call=call.info)
    outcome = StepOutcome(state="SUCCEEDED", rows_affected=result.rows_affected, seconds=1.5)
    generation.calls.observe(call.info, outcome)
    return outcome.state, result.rows_affected, json.loads(result.extras_json or "{}")


@pytest.mark.usefixtures("forget_modules")
async def test_hooks_examples(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each plugin of the page is found in the plugins folder and does what the page says, in a real generation."""
    write_project("hooks.md", tmp_path)
    report = await asyncio.to_thread(checked, tmp_path)
    steps = list(steps_of(report))
    # A type of connector that a plugin brings is not built in, and the host says so.
    assert [problem.code for problem in report.all_problems()] == ["plugin_type"]
    assert [job for job in report.jobs if not job.valid] == []
    project = Project.open(tmp_path, environ={})
    generation = load_generation(project.spec, entry_points=())
    registry = generation.registry(project.connectors)
    caplog.set_level(logging.INFO, logger="shopkit.times")
    try:
        found = {step.callable: await attempt(generation, registry, order_of(job, step)) for job, step in steps}
    finally:
        await registry.aclose()
    assert found == HOOKS
    assert caplog.messages[-2:] == [
        "shopkit.step_types:announce starts, a try of announce",
        "shopkit.step_types:announce SUCCEEDED after 1.5 s",
    ]


@pytest.mark.usefixtures("forget_modules")
def test_hooks_page_packages_a_plugin(tmp_path: Path) -> None:
    """The entry point on the page makes an installed module a plugin."""
    write_project("hooks.md", tmp_path)
    sys.path.insert(0, str(tmp_path / "plugins"))
    groups = tomllib.loads((tmp_path / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    points = [EntryPoint(name, value) for name, value in groups.pop("nomaflow.plugins").items()]
    assert not groups
    hooks = build_hooks(environ={}, trace_stream=io.StringIO(), entry_points=points)
    assert hooks._manager.has_plugin("shopkit")
    assert hooks.problems == []
