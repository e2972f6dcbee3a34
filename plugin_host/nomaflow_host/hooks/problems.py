"""Problems of a project that do not stop the rest of it from working."""

from __future__ import annotations

from dataclasses import asdict, dataclass

__all__ = ["Problem"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One entry of the manifest's ``problems``.

    :param severity: ``error`` or ``warning``
    :param code: stable and short, such as ``plugin_dropped``
    :param file: relative to the project if it lies in it; empty if there is none
    :param path: place in the file; may be empty
    :param fix: the way out, may be empty
    :param job_id: the job concerned, which an error disables; empty if it is not about a single job
    """

    severity: str
    code: str
    message: str
    file: str = ""
    path: str = ""
    fix: str = ""
    job_id: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the entry as the manifest has it."""
        return asdict(self)
