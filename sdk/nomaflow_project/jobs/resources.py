"""Resources: the needs of a step, and the capacity of an instance.

The numbers choose an instance; nothing on the machine enforces them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from nomaflow_api.bounds import LABELS_OF_INSTANCE
from nomaflow_project.reading.keys import Checked, Entry, key, refusal

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9._/-]{0,61}[a-z0-9])?")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,126}[A-Za-z0-9])?")
MOST: Mapping[str, int] = {"cpu": 65_536, "memory_mb": 1 << 24, "gpus": 1024}
"""The most of each amount."""


def bad_label(labels: Mapping[str, str]) -> str:
    """Return in words which label is malformed; empty if none is."""
    for name, value in labels.items():
        if not _LABEL.fullmatch(name) or not _LABEL_VALUE.fullmatch(value):
            return f"{name[:70]!r} = {value[:140]!r} is not a label"
    return ""


def _labels(labels: dict[str, str]) -> dict[str, str]:
    if len(labels) > LABELS_OF_INSTANCE:
        raise refusal(
            "too_many_labels", "{got} labels, expected at most {most}", got=len(labels), most=LABELS_OF_INSTANCE,
            fix="leave out those that no step asks for",
        )  # fmt: skip
    if wrong := bad_label(labels):
        fix = "write lower-case letters and digits, with -_./ in between, such as zone = 'eu-west'"
        raise refusal("bad_label", "{wrong}", wrong=wrong, fix=fix)
    return labels


Labels = Annotated[dict[str, str], Checked(_labels)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources(Entry):
    """The needs of a step, which an instance gives to no other step meanwhile; also what an instance has."""

    cpu: float = key(0.0, "Cores.", ge=0, le=MOST["cpu"])
    memory_mb: int = key(0, "Memory.", unit="MiB", ge=0, le=MOST["memory_mb"])
    gpus: int = key(0, "GPUs.", ge=0, le=MOST["gpus"])
    labels: Labels = key(dict, "Labels that the instance must have, with these values.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity(Entry):
    """Amounts that an instance has for steps that ask for resources. What is left out is measured on its machine."""

    cpu: float | None = key(None, "Cores. Default: those that the process may use.", ge=0, le=MOST["cpu"])
    memory_mb: int | None = key(
        None, "Memory. Default: the machine's, or its control group's.", unit="MiB", ge=0, le=MOST["memory_mb"]
    )
    gpus: int | None = key(
        None, "GPUs. Default: the NVIDIA devices that CUDA_VISIBLE_DEVICES allows.", ge=0, le=MOST["gpus"]
    )


def lacking(needs: Resources, has: Resources) -> list[str]:
    """Return in words each need that an instance does not meet even when it runs nothing."""
    labels = [
        f"label {name} = {value!r}" + (f" (it has {has.labels[name]!r})" if name in has.labels else "")
        for name, value in needs.labels.items()
        if has.labels.get(name) != value
    ]
    amounts = [(name, getattr(needs, name), getattr(has, name)) for name in MOST]
    return labels + [f"{name} = {asked:g} (it has {there:g})" for name, asked, there in amounts if asked > there]
