"""Messages, made of notices: grouping, mutes, rate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from nomaflow_alerts.ledger import Book, Incident, Message, Notice
from nomaflow_alerts.messages.common_causes import put_behind_causes
from nomaflow_alerts.messages.details import Details
from nomaflow_alerts.messages.harmless_text import Masker
from nomaflow_alerts.messages.payload import payload
from nomaflow_alerts.messages.templates import Templates
from nomaflow_alerts.messages.writing import Subject, write
from nomaflow_project.models.alerts_section import AlertsSection

_ALL_HOSTS = "*"
_DETAILED = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A message to write: what some notices of a channel have to say.

    :param group: what they have in common: the host that they are about, or the incident where each has messages of its
        own; ``*`` for a digest
    """

    channel: str
    group: str
    notices: Sequence[Notice]

    @property
    def incidents(self) -> list[Incident]:
        """The incidents, in order of opening."""
        return sorted({each.incident.id: each.incident for each in self.notices}.values(), key=lambda each: each.id)


def plan(book: Book, alerts: AlertsSection) -> list[Draft]:
    """Return the messages to write now. Notices of what is muted, or behind something else, wait."""
    book.add_reminders(after_seconds=alerts.remind_hours * 3600)
    put_behind_causes(book)
    drafts: list[Draft] = []
    for channel, waiting in _waiting(book, alerts).items():
        due = _due(book, alerts, channel, waiting)
        for name in _own_ends(book, channel, waiting):
            notices = waiting.pop(name)
            if due[name] <= book.now:
                drafts.append(Draft(channel=channel, group=name, notices=notices))
        groups = {name: group for name, group in waiting.items() if due[name] <= book.now}
        if len(groups) <= _left(book, alerts, channel):
            drafts += [Draft(channel=channel, group=name, notices=group) for name, group in groups.items()]
        elif _digest_at(book, alerts, channel) <= book.now:
            together = [notice for group in waiting.values() for notice in group]
            drafts.append(Draft(channel=channel, group=_ALL_HOSTS, notices=together))
    return drafts


def next_message_at(book: Book, alerts: AlertsSection) -> float | None:
    """Return when there is something to write next, or None. It may be that it is kept back then."""
    found = []
    for channel, waiting in _waiting(book, alerts).items():
        due = _due(book, alerts, channel, waiting)
        found += [max(due.pop(name), book.now) for name in _own_ends(book, channel, waiting)]
        if not due:
            continue
        first = max(min(due.values()), book.now)
        beyond = sum(at <= first for at in due.values()) > _left(book, alerts, channel)
        found.append(max(first, _digest_at(book, alerts, channel)) if beyond else first)
    found += [notice.at for notice in book.notices() if notice.at > book.now]
    reminder = book.next_reminder_at(after_seconds=alerts.remind_hours * 3600)
    return min(found + ([] if reminder is None else [reminder]), default=None)


def _left(book: Book, alerts: AlertsSection, channel: str) -> int:
    return max(alerts.max_messages_per_hour - book.outbox.made_in_hour(channel), 0)


def _digest_at(book: Book, alerts: AlertsSection, channel: str) -> float:
    return book.outbox.last_told(channel, _ALL_HOSTS) + alerts.group_seconds


def details_wanted(drafts: Iterable[Draft]) -> list[Incident]:
    """Return the incidents of which a message tells more than one line."""
    wanted = {each.id: each for draft in drafts for each in draft.incidents[:_DETAILED]}
    return list(wanted.values())


class Composer:
    """Writes messages, with the operator's templates and without the secrets of ``[alerts]``."""

    def __init__(self, alerts: AlertsSection) -> None:
        self.console_url = alerts.console_url or ""
        self.templates, self.masker = Templates(alerts.templates), Masker.of(alerts)

    def texts(self, about: Subject) -> tuple[str, str]:
        """Return subject and text."""
        subject, body = self.templates.texts(about, *write(about))
        return self.masker.masked(subject), self.masker.masked(body)


def compose(book: Book, draft: Draft, composer: Composer, details: Mapping[int, Details]) -> Message | None:
    """Write a message and keep it to be sent; None if there is nothing left to say."""
    known = {(each.incident.id, each.channel, each.kind): each for each in book.notices()}
    notices = [known[key] for each in draft.notices if (key := _key(each)) in known and not _kept_back(book, each)]
    if not notices:
        return None
    fresh = Draft(channel=draft.channel, group=draft.group, notices=notices)
    incidents = fresh.incidents
    own = {each.id for each in incidents}
    about = Subject(
        kind=_kind(fresh),
        incidents=incidents,
        now=book.now,
        console_url=composer.console_url,
        details=details,
        behind={each.id: [one for one in book.behind(each) if one.id not in own] for each in incidents},
        mutes=book.mutes,
    )
    subject, body = composer.texts(about)
    threads = {book.outbox.thread(each, draft.channel) for each in incidents}
    first_id, first_subject = threads.pop() if len(threads) == 1 else ("", "")
    message = Message(
        channel=draft.channel,
        kind=about.kind,
        subject=subject,
        body=body,
        created_at=book.now,
        next_at=book.now,
        incident_ids=tuple(each.id for each in incidents[:1000]),
        data={"answers": first_id, "conversation": first_subject, "payload": payload(about, composer.masker)},
    )
    book.outbox.add(message)
    book.drop(notices)
    book.mark_told(incidents)
    for each in incidents:
        book.outbox.begin_thread(each, message)
    book.outbox.note_told(draft.channel, draft.group)
    return message


def _key(notice: Notice) -> tuple[int, str, str]:
    return notice.incident.id, notice.channel, notice.kind


def _kept_back(book: Book, notice: Notice) -> bool:
    return book.mute_of(notice.incident) is not None


def _kind(draft: Draft) -> str:
    kinds = {each.kind for each in draft.notices}
    if draft.group == _ALL_HOSTS:
        return "digest"
    if kinds == {"closed"} or all(not each.is_open and each.tells_end for each in draft.incidents):
        return "closed"  # also of what has ended before its beginning was told
    return "reminder" if kinds == {"reminder"} else "opened"


def _waiting(book: Book, alerts: AlertsSection) -> dict[str, dict[str, list[Notice]]]:
    """Return the notices that are not kept back, by channel and what they have in common."""
    found: dict[str, dict[str, list[Notice]]] = defaultdict(lambda: defaultdict(list))
    for notice in book.notices():
        mute = book.mute_of(notice.incident)
        if mute is not None:
            if notice.at < mute.until:
                book.defer(notice, mute.until)
        else:
            if notice.at > book.now:  # a mute has become shorter, or the clock was set back
                book.defer(notice, book.now)
                notice = replace(notice, at=book.now)
            found[notice.channel][_group(notice, alerts)].append(notice)
    return found


def _group(notice: Notice, alerts: AlertsSection) -> str:
    channel = alerts.channels.get(notice.channel.partition(":")[0])
    if channel is not None and channel.each_incident:
        return f"#{notice.incident.id}"
    return _ALL_HOSTS if notice.kind == "found" else notice.incident.host


def _own_ends(book: Book, channel: str, waiting: Mapping[str, Sequence[Notice]]) -> list[str]:
    """Return the groups that are the end of one incident which had a message of its own: so has its end, always.

    There are no more of them than beginnings. A pager ends the alert of an incident only by such a message.
    """
    ends = (
        name for name, group in waiting.items() if name.startswith("#") and {each.kind for each in group} == {"closed"}
    )
    return [name for name in ends if book.outbox.last_told(channel, name)]


def _due(book: Book, alerts: AlertsSection, channel: str, waiting: Mapping[str, Sequence[Notice]]) -> dict[str, float]:
    """Return when each group is told: after the wait for others, and not too soon after the last message about it."""
    found = {}
    for name, group in waiting.items():
        first, last = min(each.at for each in group), book.outbox.last_told(channel, name)
        found[name] = max(first + alerts.group_wait_seconds, last + alerts.group_seconds)
    return found
