"""Warnings about ``[alerts]`` and ``[jobs.alerts]``: messages that nobody would get."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from nomaflow_project.jobs.alert_policy import server_of
from nomaflow_project.jobs.loaded import LoadedJob
from nomaflow_project.models.alerts_section import AlertsSection
from nomaflow_project.reading.problems import Place, Problem, did_you_mean

_BUILT_IN = ("subject", "body")


def alert_problems(alerts: AlertsSection, place: Place) -> Iterator[Problem]:
    """Yield what is wrong with ``[alerts]`` beyond its keys.

    :param place: of the table
    """
    if not alerts.channels:
        fix = 'add one: channels.ops = { url = "${OPS_URL}" }'
        yield place.warning("no_channel", "there is no channel, so nobody is told anything", fix=fix)
    yield from _recipients(alerts.default, alerts, place / "default")
    for index, rule in enumerate(alerts.rules):
        yield from _recipients(rule.recipients, alerts, place / "rules" / index / "recipients")
    for name, channel in alerts.channels.items():
        if channel.template and channel.template not in alerts.templates:
            fix = did_you_mean(channel.template, alerts.templates, noun="template")
            at = place / "channels" / name / "template"
            yield at.warning("bad_template", f"there is no template {channel.template!r}", fix=fix)
    yield from _templates(alerts, place / "templates")


def job_alert_problems(job: LoadedJob, alerts: AlertsSection) -> Iterator[Problem]:
    """Yield a warning for each recipient of a job that is not a channel, and for a check that is not requested."""
    policy = None if job.definition is None else job.definition.alerts
    if policy is None:
        return
    place = job.place / "alerts"
    yield from _recipients(policy.recipients, alerts, place / "recipients")
    server = server_of(policy.ping_url or "")
    if policy.ping_url and "${" not in policy.ping_url and server not in alerts.ping_hosts:
        problem = f"{server!r} is not a server of [alerts] ping_hosts, so the check is not requested"
        fix = f'add it to nomaflow.toml: [alerts] ping_hosts = ["{server}"]'
        yield (place / "ping_url").warning("unknown_ping_host", problem, fix=fix)


def _recipients(names: tuple[str, ...], alerts: AlertsSection, place: Place) -> Iterator[Problem]:
    mails = [name for name, channel in alerts.channels.items() if channel.type == "email"]
    for index, name in enumerate(names):
        if name in alerts.channels or (name.count("@") == 1 and len(mails) == 1):
            continue
        if "@" in name:
            problem = f"{name!r} is an address, and there is not exactly one channel of type email to send from"
            fix = 'add one to nomaflow.toml: [alerts.channels.mail] type = "email", host, from, to'
        else:
            problem = f"{name!r} is neither a channel of [alerts] nor an address"
            fix = did_you_mean(name, alerts.channels, noun="channel")
        yield (place / index).warning("unknown_recipient", f"{problem}; its messages go to the default", fix=fix)


def _templates(alerts: AlertsSection, place: Place) -> Iterator[Problem]:
    """Yield a warning for each template that cannot be parsed, if the parser is installed."""
    if not alerts.templates or importlib.util.find_spec("jinja2") is None:
        return
    from jinja2 import TemplateSyntaxError
    from jinja2.sandbox import SandboxedEnvironment

    used = {*_BUILT_IN, *(channel.template for channel in alerts.channels.values())}
    for name, text in alerts.templates.items():
        try:
            SandboxedEnvironment(autoescape=False).parse(text)
        except TemplateSyntaxError as error:
            problem = f"line {error.lineno}: {(error.message or '').rstrip('.')}; the built-in text is used"
            yield (place / name).warning("bad_template", problem, fix="correct it")
        if name not in used:
            fix = "name it subject or body, or name it in the template key of a webhook"
            yield (place / name).warning("bad_template", "no message uses it", fix=fix)
