"""The keys of ``[alerts]`` in nomaflow.toml: who is told, and how."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Annotated, Literal

from nomaflow_project.jobs.alert_policy import AlertPolicy, Severity, WebUrl, is_http
from nomaflow_project.reading.keys import Checked, Entry, key, refusal, seconds
from nomaflow_project.reading.names import LogLevel

_MAIL_KEYS = ("host", "sender", "to")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""Of a channel. The ledger writes ``CHANNEL:ADDRESS``, and a recipient with ``@`` is an address."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelEntry(Entry):
    """One way to tell somebody, under the name that `recipients` use."""

    type: Literal["apprise", "webhook", "email"] = key(
        "apprise", "`apprise`: a chat or pager of https://appriseit.com; `webhook`: a signed JSON POST; `email`."
    )
    url: str = key("", "The apprise URL, such as `slack://…`, or the webhook's `https://…`.")
    severities: tuple[Severity, ...] = key(tuple, "Severities that it takes. Empty: all.")
    each_incident: bool = key(
        default=False,
        meaning="Whether each incident has messages of its own, for a pager that keeps an alert for each.",
    )
    secret: str = key("", "Secret of a webhook's signature, `whsec_…`. Empty: it is not signed.")
    headers: dict[str, str] = key(dict, "Further headers of a webhook.")
    template: str = key("", "Name of the template that makes a webhook's whole body. Empty: the documented JSON.")
    host: str = key("", "Mail server.")
    port: int | None = key(None, "Its port. Default: 587, with `tls` 465, with `none` 25.", ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = key(
        "starttls", "How the connection to the mail server is encrypted. Only `none` sends unencrypted."
    )
    username: str = key("", "Name at the mail server. Empty: no login.")
    password: str = key("", "Password at the mail server.")
    sender: str = key("", "Sender of mails.", alias="from")
    to: tuple[str, ...] = key(tuple, "Addresses that get every mail of the channel.")


def _complete(channel: ChannelEntry) -> ChannelEntry:
    if channel.type == "email":
        missing = [{"sender": "from"}.get(name, name) for name in _MAIL_KEYS if not getattr(channel, name)]
        if missing:
            needs = " and ".join(missing)
            raise refusal("incomplete_channel", "a channel of type email needs {needs}", needs=needs, fix="add them")
    elif not channel.url:
        raise refusal("incomplete_channel", "the channel has no url", fix="add it")
    elif channel.type == "webhook" and not is_http(channel.url) and "${" not in channel.url:
        raise refusal("incomplete_channel", "a webhook's url begins with https:// or http://", fix="correct it")
    elif channel.secret and "${" not in channel.secret and not _is_base64(channel.secret.removeprefix("whsec_")):
        fix = "copy it whole, with its = at the end"
        raise refusal("bad_value", "the secret of a webhook is whsec_ and base64", fix=fix)
    return channel


def _is_base64(text: str) -> bool:
    try:
        return bool(base64.b64decode(text, validate=True))
    except ValueError:
        return False


def _named(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise refusal(
            "bad_name", "the name of a channel is 1 to 64 of A-Z, a-z, 0-9, `_`, `-` and `.`", fix="rename it"
        )
    return name


Channel = Annotated[ChannelEntry, Checked(_complete)]
ChannelName = Annotated[str, Checked(_named)]


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertRule(AlertPolicy):
    """Keys of `[jobs.alerts]` for several jobs. A later rule wins over an earlier one, and `[jobs.alerts]` over all."""

    jobs: tuple[str, ...] = key(tuple, "Ids of jobs; `etl-*` stands for all that begin with `etl-`. Empty: any.")
    hosts: tuple[str, ...] = key(tuple, "Hosts, likewise. Empty: any.")
    tags: tuple[str, ...] = key(tuple, "Tags, of which a job must have one. Empty: any.")


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertsSection(Entry):
    """Messages that `nomaflow alerts serve` sends when something goes wrong, and who gets them."""

    channels: dict[ChannelName, Channel] = key(dict, "Channels by name.")
    default: tuple[str, ...] = key(
        tuple, "Channels where neither a job nor a rule names any, and for hosts and the kernel. Empty: all channels."
    )
    rules: tuple[AlertRule, ...] = key(tuple, "Rules for several jobs.")
    console_url: WebUrl | None = key(
        None, "Address of the web console, for links. Default: messages show the command `nomaflow show RUN`."
    )
    templates: dict[str, str] = key(
        dict, "Texts of your own, Jinja2: `subject` and `body` of messages, and those that webhooks name."
    )
    ping_hosts: tuple[str, ...] = key(
        ("hc-ping.com", "cronitor.link"),
        "Servers that the `ping_url` of a job may name, as `HOST` or `HOST:PORT`. Those of rules may name any.",
    )
    heartbeat_url: WebUrl | None = key(
        None, "A dead man's switch outside this machine: requested while everything is well. Default: none."
    )
    heartbeat_seconds: float = seconds(60.0, "How often.")
    group_wait_seconds: float = seconds(30.0, "Incidents that open within this time share one message.", zero=True)
    group_seconds: float = seconds(300.0, "Shortest time between two messages of a channel about one host.", zero=True)
    remind_hours: float = key(24.0, "How often an open incident is reported again.", unit="hours", gt=0, le=8760)
    max_messages_per_hour: int = key(60, "Of one channel; beyond that, there is a digest every `group_seconds`.", ge=1)
    retry_seconds: float = seconds(5.0, "Time until a failed message is tried again; doubles, up to an hour.")
    give_up_hours: float = key(24.0, "Time after which a message is undeliverable.", unit="hours", gt=0, le=8760)
    channel_seconds: float = seconds(30.0, "Time that a channel has for one message.", most=600)
    kernel_silent_seconds: float = seconds(60.0, "Silence of the kernel that opens an incident.")
    host_detached_minutes: float = key(
        5.0, "Absence of a host with enabled jobs that opens an incident.", unit="minutes", gt=0, le=525_600
    )
    scaled_hosts: tuple[str, ...] = key(
        tuple,
        "Hosts that have no instance while nothing waits for them, since KEDA or the like starts them; `etl-*` stands "
        "for all that begin with `etl-`. Their absence opens no incident. Those of a launcher need no entry.",
    )
    kernel: str = key(
        "", "Addresses of the kernels to watch, several separated by commas. Empty: the project's own kernel."
    )
    token_file: str = key("", "File with the token for a kernel on TCP: of a service with the role `reader`.")
    kernel_ca: str = key("", "PEM file of the authorities that vouch for that kernel. Empty: the system's.")
    log_level: LogLevel = key("INFO", "Lowest level of the process's own log.")
    log_format: Literal["text", "json"] = key("text", "That log: for people, or one JSON object a line.")
