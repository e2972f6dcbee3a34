"""The grammar of callable references, checked before anything is imported."""

from __future__ import annotations

import re

MAX_LENGTH = 255
"""Characters of a reference."""
_MAX_PART = 200
"""The longest part of a name: with the ending of a compiled module it is a file's name, of at most 255 bytes."""
_DOTTED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")


def reference_error(reference: str) -> str | None:
    """Return the problem of a reference ``package.module:function``, or None."""
    if len(reference) > MAX_LENGTH:
        return f"it has {len(reference)} characters, expected at most {MAX_LENGTH}"
    if "/" in reference or "\\" in reference or reference.endswith(".py"):
        return "it is a file path, expected a module name with dots"
    if (colons := reference.count(":")) != 1:
        return f"it has {colons or 'no'} colon{'s' * (colons > 1)}, expected one between module and function"
    module, _, name = reference.partition(":")
    for what, part, side in (("module", module, "before"), ("function", name, "after")):
        if not part:
            return f"the {what} {side} the colon is missing"
        if not _DOTTED.fullmatch(part):
            return f"the {what} {part[:60]!r} is not a dotted name of ASCII letters, digits and '_'"
    for segment in re.split(r"[.:]", reference):
        if len(segment) > _MAX_PART:
            return f"the part {segment[:30] + '…'!r} has {len(segment)} characters, expected at most {_MAX_PART}"
        if segment.startswith("__"):
            return f"{segment!r} begins with two underscores, and no step may name such a part"
    return None


def last_part(reference: str) -> str:
    """Return the last name of a reference, used to name an unnamed step."""
    return re.split(r"[.:]", reference)[-1]
