"""The modules of an idle process of the alerts: memory that nothing gives back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SETTINGS = """
[alerts]
heartbeat_url = "https://example.org/beat"
templates.body = "{{ text }}"
channels.chat = { url = "json://127.0.0.1" }
channels.mail = { type = "email", host = "mx", from = "a@x", to = ["b@x"] }
channels.hook = { type = "webhook", url = "https://example.org", headers = { authorization = "${KEY}" } }
rules = [{ jobs = ["etl-*"], failures = 2 }]
"""
CODE = """
import json, os, sys
from pathlib import Path
from nomaflow_alerts.settings import checked_alerts
alerts = checked_alerts(Path(sys.argv[1]), os.environ)
import nomaflow_alerts.app
heavy = {"apprise", "cryptography", "httpx", "jinja2", "pydantic", "pydantic_core", "requests", "sqlalchemy"}
print(json.dumps([sorted(heavy & set(sys.modules)), alerts.to_json()]))
"""


def test_an_idle_process_loads_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    """Its settings are checked all the same, and complete."""
    (tmp_path / "nomaflow.toml").write_text(SETTINGS)
    command = [sys.executable, "-c", CODE, str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, "KEY": "k"}, capture_output=True, text=True, check=True)
    loaded, alerts = json.loads(done.stdout)
    assert loaded == []
    assert alerts["channels"]["hook"]["headers"] == {"authorization": "k"}
    assert (alerts["rules"][0]["failures"], alerts["group_seconds"]) == (2, 300.0)


ASKED_WRONGLY = """
import sys
from pathlib import Path
from nomaflow_alerts.settings import CannotServe, checked_alerts
try:
    checked_alerts(Path(sys.argv[1]), {"KEY": "k"})
except CannotServe as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("settings", "told"),
    [("", "has no channel"), (SETTINGS.replace("failures = 2", "failures = true"), "expected a number, got true")],
)
def test_what_is_wrong_with_the_settings_is_told_by_the_process_itself(
    tmp_path: Path, settings: str, told: str
) -> None:
    """Though a child has read them.

    In an interpreter of its own: a child of a process that has used gRPC may crash in what gRPC does after a fork.
    """
    (tmp_path / "nomaflow.toml").write_text(settings)
    command = [sys.executable, "-c", ASKED_WRONGLY, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (told in done.stdout, done.stderr) == (True, "")


ENDED_BY = """
import sys
import nomaflow_alerts.app
from nomaflow_alerts.__main__ import main
from nomaflow_alerts.settings import CannotServe

async def serve(*_):
    raise CannotServe("alerts.db cannot be used: disk I/O error", exit_code=1)

nomaflow_alerts.app.serve = serve
sys.exit(main(["--project", sys.argv[1]]))
"""


def test_a_file_that_fails_while_it_is_used_ends_the_process_for_a_new_start(tmp_path: Path) -> None:
    """``up`` does not start a part again that ends with 75: that is the code of one that another process keeps out."""
    (tmp_path / "nomaflow.toml").write_text(SETTINGS)
    command = [sys.executable, "-c", ENDED_BY, str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, "KEY": "k"}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("nomaflow alerts: alerts.db cannot be used: disk I/O error")
    assert "Traceback" not in done.stderr


def test_a_start_without_room_may_be_tried_again(tmp_path: Path) -> None:
    """It ends with 1, after which whoever supervises it starts it again, and not as if another one had the file."""
    (tmp_path / "nomaflow.toml").write_text(SETTINGS)
    command = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", sys.executable, "-B", "-m", "nomaflow_alerts"]
    done = subprocess.run(
        [*command, "--project", str(tmp_path)],
        env={**os.environ, "KEY": "k"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "check the disk" in done.stderr) == (1, True), done


def test_a_folder_that_is_too_deep_for_a_socket_is_told(tmp_path: Path) -> None:
    """It is told with the path of the user's own folder, where the socket of such a project is: no traceback."""
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    (deep / "nomaflow.toml").write_text(SETTINGS)
    command = [sys.executable, "-m", "nomaflow_alerts", "--project", str(deep)]
    environ = {**os.environ, "KEY": "k", "XDG_RUNTIME_DIR": str(deep)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 78, done
    assert done.stderr.startswith(f"nomaflow alerts: the socket path '{deep}/nomaflow/")
    assert done.stderr.endswith("; choose a shorter one\n")
