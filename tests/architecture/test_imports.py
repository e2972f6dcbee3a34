"""The costs of imports, and the allowed imports between packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
