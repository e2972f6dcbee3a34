"""The costs of imports, and the allowed imports between packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_layers_hold() -> None:
    """Every contract of .importlinter is kept."""
    result = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout


def test_importing_the_sdk_loads_nothing_heavy() -> None:
    """A fresh ``import nomaflow`` loads neither gRPC, typer, pydantic nor SQLAlchemy."""
    code = (
        "import sys, nomaflow; nomaflow.StepResult; "
        "print([name for name in ('grpc', 'typer', 'pydantic', 'sqlalchemy', 'rich') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("module", "unneeded"),
    [
        ("nomaflow_kernel.app", ("alembic", "asyncpg", "cryptography", "prometheus_client", "watchfiles", "wsgiref")),
        (
            "nomaflow_host.app",
            ("croniter", "cryptography", "email", "httpx", "importlib.metadata", "prometheus_client", "pydantic",
             "sqlalchemy", "watchfiles", "wsgiref"),
        ),
        ("nomaflow_kernel.upkeep.__main__", ("asyncio", "croniter", "grpc", "pydantic", "sqlalchemy")),
        ("nomaflow_host.reaper.loop", ("asyncio", "dataclasses", "inspect", "msgspec", "pathlib")),
        ("nomaflow_host.template.process", ("email", "grpc", "httpx", "importlib.metadata", "pydantic", "sqlalchemy")),
    ],
)  # fmt: skip
def test_a_start_loads_no_part_that_few_have_a_use_for(module: str, unneeded: tuple[str, ...]) -> None:
    """Metrics, watches, certificates, PostgreSQL, migrations and checks are loaded by whoever uses them."""
    code = f"import sys, {module}; print([name for name in {unneeded!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("part", ["kernel", "host", "console", "alerts", "launchers"])
def test_a_wrong_option_is_told_before_a_part_is_loaded(part: str) -> None:
    """So is help: what takes most of a start, gRPC and the store, is loaded once the command line is understood."""
    command = [sys.executable, "-X", "importtime", "-P", "-m", f"nomaflow_{part}", "--nonsense"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert "no such option: --nonsense" in told
    assert not {"grpc", "sqlalchemy", "pydantic"} & {line.rpartition("|")[2].strip() for line in told.splitlines()}


def test_the_collector_leaves_imports_alone() -> None:
    """Imports inside the block are exempt from collection, which goes on afterwards."""
    code = (
        "import gc\n"
        "from nomaflow_api.import_freeze import imports_frozen\n"
        "with imports_frozen():\n"
        "    inside = gc.isenabled()\n"
        "    import email.message\n"
        "print(inside, gc.isenabled(), any(each is email.message.__dict__ for each in gc.get_objects()))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "True", "False"]
