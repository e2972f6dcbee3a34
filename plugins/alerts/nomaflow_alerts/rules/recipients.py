"""Channels, found by the names of recipients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nomaflow_project.models.alerts_section import AlertsSection, ChannelEntry


class Recipients:
    """Chooses channels by recipients and severity."""

    def __init__(self, alerts: AlertsSection) -> None:
        self._channels: Mapping[str, ChannelEntry] = alerts.channels
        mails = [name for name, each in alerts.channels.items() if each.type == "email"]
        self._mail = mails[0] if len(mails) == 1 else ""
        known, _ = self._known(alerts.default)
        self._default = known or tuple(alerts.channels)

    def channels(self, names: Iterable[str], severity: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the channels for recipients, and the names among those that stand for none.

        An address becomes ``CHANNEL:ADDRESS``. In place of a name that stands for none, the default is told. If no
        channel is left, or none takes the severity, the default is told; if that takes it neither, whatever channel
        does, else all: somebody is always told.
        """
        known, unknown = self._known(names)
        named = tuple(dict.fromkeys((*known, *self._default))) if unknown else known
        for choice in (named, self._default, tuple(self._channels)):
            taken = tuple(name for name in choice if self._takes(name, severity))
            if taken:
                return taken, unknown
        return self._default, unknown

    def without(self, channel: str, severity: str) -> tuple[str, ...]:
        """Return the channels that are told about a broken one: the default's others, else all others."""
        broken = channel_of(channel)
        others = [name for name in self._default if name != broken] or [n for n in self._channels if n != broken]
        return tuple(name for name in others if self._takes(name, severity)) or tuple(others)

    def _known(self, names: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        known: dict[str, None] = {}
        unknown: list[str] = []
        for name in names:
            if name in self._channels:
                known[name] = None
            elif name.count("@") == 1 and self._mail:
                known[f"{self._mail}:{name}"] = None
            else:
                unknown.append(name)
        return tuple(known), tuple(unknown)

    def _takes(self, name: str, severity: str) -> bool:
        severities = self._channels[channel_of(name)].severities
        return not severities or severity in severities


def channel_of(name: str) -> str:
    """Return the channel's name in ``[alerts]``: that of ``CHANNEL:ADDRESS`` too."""
    return name.partition(":")[0]


def mail_addresses(name: str, channel: ChannelEntry) -> tuple[str, ...]:
    """Return who gets the mails of a channel: the one address of ``CHANNEL:ADDRESS``, else all of its ``to``."""
    one = name.partition(":")[2]
    return (one,) if one else channel.to
