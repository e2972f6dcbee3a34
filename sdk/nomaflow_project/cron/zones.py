"""Time zones by their IANA names, and the version of their data."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from pathlib import Path
from zoneinfo import TZPATH, ZoneInfo, ZoneInfoNotFoundError, available_timezones

from nomaflow_api.near_names import near_names
from nomaflow_project.cron.errors import CronError

# The meaning of these names depends on the machine, or they count leap seconds: a schedule must mean the same
# everywhere.
_REFUSED = ("right/", "posix/", "localtime", "posixrules", "Factory")
_OFFSET = re.compile(r"(?:utc|gmt)([+-])0?(\d\d?)(?::?00)?")


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """Return the zone of an IANA name such as ``Europe/Paris``.

    :raises CronError: if no such zone is known; names similar ones
    """
    if not name.startswith(_REFUSED):
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            # OSError: the name is a folder of the zone files, such as "America".
            pass
    raise CronError("timezone", name, "no zone of this name is known", fix=_advice(name))


@cache
def _known() -> list[str]:
    return sorted(each for each in available_timezones() if not each.startswith(_REFUSED))


def _advice(name: str) -> str:
    known = _known()
    folded = {candidate.casefold(): candidate for candidate in known}
    wanted = name.strip().replace(" ", "_").casefold()
    near = [folded[wanted]] if wanted in folded else []
    offset = _OFFSET.fullmatch(wanted)
    fixed = f"Etc/GMT{'-' if offset[1] == '+' else '+'}{offset[2]}" if offset else ""
    if fixed in known:
        return f"write {fixed!r}, whose sign is reversed, or name a place, such as 'Europe/Paris'"
    near = near or [candidate for candidate in known if candidate.casefold().endswith("/" + wanted)][:3]
    near = near or near_names(wanted, known)
    if near:
        return "did you mean " + " or ".join(repr(candidate) for candidate in near) + "?"
    return "give an IANA name such as 'Europe/Paris' or 'UTC'"


@cache
def zone_data_version() -> str:
    """Return the version of the zone data in use, or "unknown"."""
    for folder in TZPATH:
        for name in ("+VERSION", "tzdata.zi"):
            path = Path(folder) / name
            if path.is_file():
                with path.open(encoding="utf-8") as file:
                    return file.readline().strip().removeprefix("# version ")
    import importlib.metadata  # few systems get here, and it takes as long as the rest of the cron parser

    try:
        return importlib.metadata.version("tzdata")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
