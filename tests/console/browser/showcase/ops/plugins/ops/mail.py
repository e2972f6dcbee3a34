"""Sends mail: it needs a module that is not installed here."""

from __future__ import annotations

import lxml_html_of_the_future  # type: ignore[import-not-found]

__all__ = ["send"]
send = lxml_html_of_the_future.send
