"""The texts of jobs.toml that have a form of their own: ids, names, schedules, zones."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from nomaflow_project.reading.keys import Checked, formed, refusal
from nomaflow_project.reading.names import JOB_ID

_NAME_LENGTH = 128
_IMAGE_LENGTH = 512
_IMAGE = re.compile(
    r"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::\d{1,5})?/)?"  # the registry
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@[a-z0-9]+:[0-9a-f]{32,128})?"
)


def is_job_id(text: str) -> bool:
    """Return True if ``text`` has the form of a job id."""
    return JOB_ID.fullmatch(text) is not None


def _parsed(code: str, parse: Callable[[Any, str], object]) -> Checked:
    """Return a validator of schedules or zones; an empty text stands for none.

    :param parse: takes the package of cron, and the text
    """

    def checked(text: str) -> str:
        if text:
            from nomaflow_project import cron  # few processes that have these keys check a schedule

            try:
                parse(cron, text)
            except cron.CronError as error:
                raise refusal(code, "{problem}", problem=error.problem, fix=error.fix) from error
        return text

    return Checked(checked)


JobId = Annotated[
    str,
    formed(
        "bad_job_id",
        is_job_id,
        "a job id; expected 1 to 128 ASCII letters, digits, '-', '_' or '.', beginning with a letter or digit",
        "rename the job",
    ),
]
Name = Annotated[
    str,
    formed(
        "bad_name",
        lambda text: len(text) <= _NAME_LENGTH and text.isprintable() and text.strip(),
        "a name; expected 1 to 128 printable characters",
        "rename it",
    ),
]
Image = Annotated[
    str,
    formed(
        "bad_image",
        lambda text: not text or (len(text) <= _IMAGE_LENGTH and _IMAGE.fullmatch(text)),
        "the name of a container image",
        "write REGISTRY/NAME:TAG or NAME@sha256:DIGEST, such as 'ghcr.io/team/train:2.1'",
    ),
]
ExceptionNames = Annotated[
    tuple[str, ...],
    formed(
        "bad_exception_name",
        lambda text: all(part.isidentifier() for part in text.split(".")),
        "the name of an exception",
        "give a class name such as 'ConnectionError' or 'httpx.HTTPError'",
    ),
]
Cron = Annotated[
    str,
    _parsed("bad_schedule", lambda cron, text: text.strip() and cron.CronExpression.parse(text)),
    Checked(str.strip),
]
Zone = Annotated[str, _parsed("unknown_timezone", lambda cron, name: cron.zone(name))]
ZoneOrUtc = Annotated[Zone, Checked(lambda name: name or "UTC")]
