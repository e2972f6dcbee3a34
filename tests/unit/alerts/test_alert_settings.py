"""``nomaflow check`` finds the mistakes in ``[alerts]`` and ``[jobs.alerts]``."""

from __future__ import annotations

from pathlib import Path

import pytest
from alerts_rig import section

from nomaflow_alerts.rules.policies import JobFacts, Policies
from nomaflow_project.check.project import check_project
from nomaflow_project.jobs.alert_policy import AlertPolicy

JOB = """
[[jobs]]
id = "nightly"
steps = [{ callable = "myapp.load:load" }]
"""
CHANNELS = """
[alerts]
channels.ops = { url = "json://127.0.0.1" }
channels.mail = { type = "email", host = "mx", from = "a@example.org", to = ["b@example.org"] }
"""


def findings(folder: Path, *, settings: str, jobs: str = JOB) -> dict[str, tuple[str, str]]:
    """Return code → severity and place of the problems of a project."""
    (folder / "nomaflow.toml").write_text(settings)
    (folder / "jobs.toml").write_text(jobs)
    report = check_project(folder, environ={})
    return {each.code: (str(each.severity), f"{each.file}: {each.path}") for each in report.all_problems()}


def test_a_complete_table_has_no_problem(tmp_path: Path) -> None:
    """Channels, an address through the only mail channel, a rule: nothing to say."""
    rule = '[[alerts.rules]]\ntags = ["x"]\nlate_after_minutes = 5\nrecipients = ["ops", "c@example.org"]\n'
    jobs = (
        JOB + 'alerts = { recipients = ["ops", "d@example.org"], failures = 3, ping_url = "https://hc-ping.com/1" }\n'
    )
    assert findings(tmp_path, settings=CHANNELS + rule, jobs=jobs) == {}


def test_an_unknown_key_of_a_channel_is_told_with_the_keys_that_a_file_may_have(tmp_path: Path) -> None:
    """The sender of mails is ``from`` there, whatever the program calls it."""
    (tmp_path / "nomaflow.toml").write_text(CHANNELS.replace("from =", "form ="))
    (tmp_path / "jobs.toml").write_text(JOB)
    [problem] = [each for each in check_project(tmp_path, environ={}).all_problems() if each.code == "unknown_key"]
    assert "'from'" in problem.fix


def test_a_recipient_that_is_no_channel_is_a_warning(tmp_path: Path) -> None:
    """In a job, in a rule and in the default; the job stays enabled."""
    jobs = JOB + 'alerts = { recipients = ["opps"] }\n'
    found = findings(tmp_path, settings=CHANNELS, jobs=jobs)
    assert found == {"unknown_recipient": ("warning", "jobs.toml: jobs[0].alerts.recipients[0]")}
    found = findings(tmp_path, settings=CHANNELS + '[[alerts.rules]]\nrecipients = ["opps"]\n')
    assert found == {"unknown_recipient": ("warning", "nomaflow.toml: alerts.rules[0].recipients[0]")}
    found = findings(tmp_path, settings=CHANNELS.replace("[alerts]", '[alerts]\ndefault = ["nobody"]'))
    assert found == {"unknown_recipient": ("warning", "nomaflow.toml: alerts.default[0]")}


def test_a_job_s_check_at_a_server_that_is_not_named_is_a_warning(tmp_path: Path) -> None:
    """A ping_url outside ping_hosts is a warning, and is not requested; a malformed one is an error."""
    jobs = JOB + 'alerts = { ping_url = "https://hc.example/1" }\n'
    found = findings(tmp_path, settings=CHANNELS, jobs=jobs)
    assert found == {"unknown_ping_host": ("warning", "jobs.toml: jobs[0].alerts.ping_url")}
    assert findings(tmp_path, settings=CHANNELS + 'ping_hosts = ["hc.example"]\n', jobs=jobs) == {}
    found = findings(tmp_path, settings=CHANNELS, jobs=JOB + 'alerts = { ping_url = "http://[" }\n')
    assert found == {"bad_value": ("error", "jobs.toml: jobs[0].alerts.ping_url")}


def test_an_address_needs_a_mail_channel(tmp_path: Path) -> None:
    """Without one there is nothing to send it by."""
    jobs = JOB + 'alerts = { recipients = ["d@example.org"] }\n'
    settings = '[alerts]\nchannels.ops = { url = "json://127.0.0.1" }\n'
    assert "unknown_recipient" in findings(tmp_path, settings=settings, jobs=jobs)


@pytest.mark.parametrize(
    ("settings", "code", "severity"),
    [
        ("[alerts]\ngroup_seconds = 5\n", "no_channel", "warning"),
        ('[alerts]\nchannels.m = { type = "email", host = "mx" }\n', "incomplete_channel", "error"),
        ('[alerts]\nchannels.w = { type = "webhook", url = "ftp://x" }\n', "incomplete_channel", "error"),
        ('[alerts]\nchannels.w = { url = "${SLACK}" }\n', "unset_variable", "warning"),
        ('[alerts]\nchannels.w = { url = "json://x" }\ntemplates.body = "{{ x"\n', "bad_template", "warning"),
        ('[alerts]\nchannels.w = { url = "json://x" }\ntemplates.bodi = "x"\n', "bad_template", "warning"),
        ('[alerts]\nchannels.w = { url = "json://x" }\nheartbeat_url = "hc"\n', "bad_value", "error"),
        ('[alerts]\nchannels.w = { url = "json://x" }\nheartbeat_url = "http://["\n', "bad_value", "error"),
        ('[alerts]\nchannels."a:b" = { url = "json://x" }\n', "bad_name", "error"),
        ('[alerts]\nchannels.w = { type = "webhook", url = "https://x", secret = "whsec_x" }\n', "bad_value", "error"),
        ('[alerts]\nchannel.w = { url = "json://x" }\n', "unknown_key", "error"),
    ],
)
def test_what_is_wrong_with_the_table(tmp_path: Path, settings: str, code: str, severity: str) -> None:
    """Each mistake has its code."""
    assert findings(tmp_path, settings=settings)[code][0] == severity


def test_a_url_is_never_shown(tmp_path: Path) -> None:
    """The URL of a check is a credential."""
    (tmp_path / "nomaflow.toml").write_text("[alerts]\nheartbeat_url = 4711\n")
    (tmp_path / "jobs.toml").write_text(JOB)
    assert "4711" not in str(check_project(tmp_path, environ={}).problems)


def test_the_job_s_own_keys_win_over_rules() -> None:
    """Key by key; later rules win over earlier ones, and false is something that is said."""
    policies = Policies(section(rules=[{"failures": 3, "on_failure": False, "on_missed": False}, {"failures": 2}]))
    given = {"on_failure": True, "failures": None, "recipients": [], "unknown": 1}
    policies.learn(JobFacts("nightly", given=AlertPolicy.given(given)))
    rules = policies.rules("nightly")
    assert (rules.failures, rules.on_failure, rules.on_missed, rules.channels) == (2, True, False, ("ops",))
