"""The original's import paths, in fresh interpreters."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def run(code: str, *path: Path) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    lines = "".join(f"import sys; sys.path.insert(0, {str(each)!r})\n" for each in path)
    done = subprocess.run([sys.executable, "-P", "-c", lines + code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_names_resolve_to_ours() -> None:
    """Both modules give Nomaflow's own classes; they can be installed twice."""
    assert (
        run(
            "import sys\n"
            "from nomaflow_host.compat import install_liberty_aliases as install\n"
            "install()\n"
            "first = sys.modules['liberty']\n"
            "install()\n"
            "import nomaflow, liberty.jobs.steps.base as base, importlib.util\n"
            "from liberty.connectors import ConnectorRegistry\n"
            "from liberty.jobs.steps.base import RunContext, StepCancelled, StepFailed, StepResult, Trigger\n"
            "print(sys.modules['liberty'] is first, StepFailed is nomaflow.StepFailed,\n"
            "      RunContext is nomaflow.RunContext, ConnectorRegistry is nomaflow.ConnectorRegistry,\n"
            "      importlib.util.find_spec('liberty.jobs') is not None)"
        )
        == "True True True True True"
    )


def test_unknown_names_are_ordinary_errors() -> None:
    """A name of the original that we lack is an ImportError that names it."""
    assert "cannot import name 'Nothing'" in run(
        "from nomaflow_host.compat import install_liberty_aliases\ninstall_liberty_aliases()\n"
        "try:\n  from liberty.jobs.steps.base import Nothing\nexcept ImportError as e: print(e)"
    )
    assert "No module named 'liberty.config'" in run(
        "from nomaflow_host.compat import install_liberty_aliases\ninstall_liberty_aliases()\n"
        "try:\n  import liberty.config\nexcept ImportError as e: print(e)"
    )


def test_the_original_wins(tmp_path: Path) -> None:
    """An installed original is left unchanged."""
    (tmp_path / "liberty" / "jobs").mkdir(parents=True)
    (tmp_path / "liberty" / "__init__.py").write_text("original = True")
    assert run(
        "from nomaflow_host.compat import install_liberty_aliases\ninstall_liberty_aliases()\n"
        "import liberty; print(liberty.original)\ninstall_liberty_aliases(); print(liberty.original)",
        tmp_path,
    ).split() == ["True", "True"]
