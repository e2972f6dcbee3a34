"""The generated stubs are what the .proto files say, and the protos keep their house rules."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROTOS = ROOT / "protos"


def bin_of(name: str) -> str:
    """Return the path of a program of the virtual environment the tests run in."""
    return str(Path(sys.executable).parent / name)


def test_regenerating_the_stubs_changes_nothing(tmp_path: Path) -> None:
    """The committed stubs are byte for byte what the pinned generator makes of the protos."""
    shutil.copytree(PROTOS, tmp_path / "protos", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parent.parent)
    for stub in (tmp_path / "protos/nomaflow_api/v1").glob("*_pb2*"):
        stub.unlink()
    stamp = tmp_path / ".venv/.installed"
    assert stamp.exists(), "run the tests with make test, which makes the environment"
    (tmp_path / "pyproject.toml").write_text("")
    subprocess.run(
        ["make", "--old-file=pyproject.toml", "protos"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    made = {path.name: path.read_bytes() for path in (tmp_path / "protos/nomaflow_api/v1").iterdir() if path.is_file()}
    kept = {path.name: path.read_bytes() for path in (PROTOS / "nomaflow_api/v1").iterdir() if path.is_file()}
    assert made.keys() == kept.keys()
    assert [name for name in made if made[name] != kept[name]] == []


def test_buf_finds_nothing(tmp_path: Path) -> None:
    """The protos pass buf's STANDARD and COMMENTS rules: every message, field, enum, value and rpc is commented."""
    result = subprocess.run([bin_of("buf"), "lint"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")
