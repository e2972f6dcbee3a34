"""Texts of the operator's own: Jinja2 in its sandbox. A template that fails gives way to the built-in text."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nomaflow_alerts.messages.harmless_text import Masker, cut, plain
from nomaflow_alerts.messages.payload import payload
from nomaflow_alerts.messages.writing import Subject

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

_LOG = logging.getLogger(__name__)
_NO_MASK = Masker(())
_MOST = 262_144
"""Characters of a template's text: half a JSON object is worse than none, so a longer one has failed."""


class Templates:
    """Renders the templates of ``[alerts.templates]``. Jinja2 is loaded if there is one."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def texts(self, about: Subject, subject: str, body: str) -> tuple[str, str]:
        """Return subject and text of a message: those of templates, else the built-in ones, and then the reason."""
        if not {"subject", "body"} & self._texts.keys():
            return subject, body
        values = {**payload(about, _NO_MASK), "subject": subject, "text": body, "kind": about.kind}
        notes: list[str] = []
        made = {}
        for name, built_in in (("subject", subject), ("body", body)):
            made[name], problem = self.rendered(name, values, built_in)
            notes += [problem] if problem else []
        text = cut("\n".join([made["body"], *notes]))
        return plain(made["subject"].replace("\n", " "), most=150), text

    def rendered(self, name: str, values: Mapping[str, Any], built_in: str = "") -> tuple[str, str]:
        """Return the text of a template, or the built-in one, and what is wrong with the template."""
        if name not in self._texts:
            return built_in, ""
        try:
            text = self._sandbox.from_string(self._texts[name]).render(**values)
            if len(text) > _MOST:
                raise ValueError(f"it made {len(text):,} characters, at most {_MOST:,} are sent")
        except Exception as error:  # noqa: BLE001  # whatever a template does, the message goes out
            problem = f"Note: the template {name!r} failed: {plain(str(error))}"
            _LOG.warning("the template %r failed: %s", name, error)
            return built_in, problem
        return text, ""

    @cached_property
    def _sandbox(self) -> SandboxedEnvironment:
        from jinja2 import StrictUndefined
        from jinja2.sandbox import SandboxedEnvironment

        # The texts are plain: each channel escapes for its own markup.
        return SandboxedEnvironment(autoescape=False, undefined=StrictUndefined)
