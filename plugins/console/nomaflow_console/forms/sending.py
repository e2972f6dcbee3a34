"""The form of a run as it stands: what it shows, what it asks for, and what the kernel says of that."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nomaflow.client import ClientError, InvalidRequest, KernelUnreachable
from nomaflow.client.values import Replayed, Triggered
from nomaflow_console.forms.fields import Field, Form
from nomaflow_console.forms.merging import Wanted, same
from nomaflow_console.forms.parsing import ABSENT, shown
from nomaflow_console.forms.reading import JSON_FIELD, Reading, field_of, lacking

_CHECK_SECONDS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """The options of a form beside its values.

    :param start: of a replay: the step to begin at, ``failed`` for the one that failed, empty for the first
    :param current_definition: of a replay: True to run the job as it is now
    """

    preset: str = ""
    log_level: str = ""
    allow_overlap: bool = False
    start: str = ""
    current_definition: bool = False

    @classmethod
    def of(cls, sent: Mapping[str, str], *, start: str = "") -> Options:
        """Return the options of a form or an address.

        :param start: where a replay begins if nothing is said
        """
        return cls(
            preset=sent.get("preset", ""),
            log_level=sent.get("log_level", "").upper(),
            allow_overlap=sent.get("overlap", "") == "allow",
            start=sent.get("from", start),
            current_definition=sent.get("definition", "") == "now",
        )


@dataclass(frozen=True, slots=True)
class Change:
    """One difference from the job, or from the run that is done again; the texts are for people."""

    place: str
    before: str
    after: str


def changes(form: Form, wanted: Wanted) -> list[Change]:
    """Return what a run will have that it would not have by itself."""
    found = []
    switches = {step.name: step.on for step in form.steps}
    for place, value in wanted.items():
        if not place.key:
            was, now = switches.get(place.step), bool(value)
            if was is not now:
                found.append(Change(f"step {place.step}", _on(was), _on(now)))
            continue
        one = form.at(place)
        before = one.now if one is not None else ABSENT
        if not same(before, value):
            found.append(Change(str(place), _before(one), shown(value)))
    return found


def _on(on: bool | None) -> str:  # noqa: FBT001  # its one argument
    return "" if on is None else "on" if on else "off"


def _before(one: Field | None) -> str:
    if one is None or (one.now is ABSENT and not one.secret):
        return "not given"
    return "secret" if one.secret else shown(one.now)


@dataclass(frozen=True, kw_only=True)
class FormState:
    """A form as it is shown.

    :param problem: what the kernel says against the whole of it
    :param warnings: of the kernel, about what would be started
    :param checked: True if the kernel has found nothing wrong
    :param startable: True if the kernel would start it as it stands
    :param lacking: the places of values that it needs, of a form that nobody has filled in yet
    :param merged: by step, the values that it would get
    """

    form: Form
    reading: Reading
    options: Options
    request_id: str
    problem: str = ""
    fix: str = ""
    warnings: Sequence[str] = ()
    checked: bool = False
    startable: bool = False
    lacking: Sequence[str] = ()
    merged: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def changes(self) -> list[Change]:
        """Differences from the run as it would be without the form."""
        return changes(self.form, self.reading.wanted)

    def text(self, one: Field) -> str:
        """Return the text of a field."""
        shown = self.reading.texts.get(one.name)
        return one.begins_with(self.reading.base) if shown is None else shown

    def error(self, name: str) -> str:
        """Return what is wrong with a field; empty for nothing."""
        return self.reading.errors.get(name, "")

    def places(self, names: Iterable[str]) -> list[str]:
        """Return the places of inputs, as a person writes them."""
        known = {name: str(one.place) for name, one in self.form.fields.items()}
        known |= {step.switch: f"step {step.name}" for step in self.form.steps}
        return [known.get(name, name.removesuffix("_json").replace("_", " ")) for name in names]

    @property
    def wrong(self) -> list[str]:
        """The places of what is wrong, as a person writes them."""
        return self.places(self.reading.errors)

    @property
    def lost_errors(self) -> list[str]:
        """Errors that have no field on the page."""
        known = {*self.form.fields, *(step.switch for step in self.form.steps), JSON_FIELD, "log_level"}
        known |= {"preset"} if self.options.preset else set()
        return [text for name, text in self.reading.errors.items() if name not in known]


def seen_warnings(sent: Mapping[str, str]) -> Sequence[str]:
    """Return the warnings that a form showed before it was sent."""
    try:
        found = json.loads(sent.get("seen") or "[]")
    except (ValueError, RecursionError):
        return ()
    return tuple(each for each in found if isinstance(each, str)) if isinstance(found, list) else ()


async def checked(
    state: FormState, ask: Callable[[], Awaitable[Triggered | Replayed]], *, blames_empty: bool = True
) -> FormState:
    """Have the kernel check a form; what of it cannot be read is told with what the kernel says against the rest.

    :param ask: sends what the form asks for to the kernel, only to be checked
    :param blames_empty: False for a form that nobody has filled in yet, which is not blamed for what it lacks
    :raises KernelUnreachable: if there is no kernel to ask
    :raises TimeoutError: if the kernel does not answer in time, and nothing else is known to be wrong with what was
        filled in
    """
    if state.error(JSON_FIELD):
        return state  # nobody knows what the form asks for
    if not blames_empty:
        empty = [name for name in lacking(state.form, state.reading.wanted) if not state.error(name)]
        state = replace(state, lacking=state.places(empty))
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            answer = await ask()
    except TimeoutError:
        if blames_empty and state.reading:
            raise
        return state
    except KernelUnreachable:
        raise
    except ClientError as error:
        return with_refusal(state, error, blames_empty=blames_empty)
    if not state.reading:
        return replace(state, warnings=answer.warnings)
    merged = {each.step: each.op_kwargs for each in answer.steps}
    return replace(state, warnings=answer.warnings, checked=blames_empty, startable=not state.lacking, merged=merged)


def with_refusal(state: FormState, error: ClientError, *, blames_empty: bool = True) -> FormState:
    """Return a form with what the kernel says against it, beside the fields that it is about."""
    if not isinstance(error, InvalidRequest) or not error.fields:
        return replace(state, problem=error.message, fix=error.fix)
    errors = {field_of(name) or name: text for name, text in error.fields.items()}
    fields = state.form.fields
    # A param without a field of its own is told beside the field of that name of a step.
    for name in list(errors):
        if name not in fields and name.startswith("p."):
            step = next((each for each in fields.values() if each.place.key == name[2:]), None)
            if step is not None:
                errors[step.name] = errors.pop(name)
    empty = () if blames_empty else [name for name in errors if name in fields and not state.text(fields[name])]
    errors = {name: text for name, text in errors.items() if name not in empty}
    # A field that cannot be read was not sent: that the kernel lacks it says less.
    reading = replace(state.reading, errors={**errors, **state.reading.errors})
    return replace(state, reading=reading, lacking=list(dict.fromkeys([*state.lacking, *state.places(empty)])))
