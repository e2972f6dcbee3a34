"""Small projects on disk, loaded in this process and forgotten afterwards."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from nomaflow_host.generation.generation import Generation, load_generation
from nomaflow_host.generation.spec import ProjectSpec

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def forget_modules() -> Iterator[None]:
    """Take back what an import of plugins left in this process."""
    modules, path = dict(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - set(modules):
        if not name.startswith(("nomaflow", "pydantic", "sqlalchemy", "aiosqlite", "httpx")):
            del sys.modules[name]


@pytest.fixture
def project(tmp_path: Path, forget_modules: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Generation]:
    """Return a function that writes files below ``plugins`` and loads the project."""

    def load(files: dict[str, str], *named: str, trace: io.StringIO | None = None, **spec: Any) -> Generation:
        plugins = tmp_path / "plugins"
        for name, text in files.items():
            file = plugins / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        if trace is not None:
            monkeypatch.setenv("NOMAFLOW_TRACE_HOOKS", "1")
        return load_generation(
            ProjectSpec(
                host="demo",
                root=str(tmp_path),
                sys_path=(str(plugins),),
                plugin_dirs=(str(plugins),),
                named_callables=named,
                **spec,
            ),
            trace_stream=trace or sys.stderr,
            entry_points=(),
        )

    return load
