"""The colours of the console can be told apart and read, in light and in dark, by every eye."""

from __future__ import annotations

import gzip
import itertools
import re
from pathlib import Path

import pytest
from colour_science import EYES, contrast, distance, linear, seen_by

from nomaflow_console.assets import BUNDLES, STATIC
from nomaflow_console.views import states

CSS = STATIC / "css"
STYLES = (CSS / "console.css").read_text()
LIGHTS = ("light", "dark")
STATES = ("waits", "running", "stopping", "ok", "failed", "canceled", "skipped", "missed", "lost")
GROUNDS = ("bg", "surface", "raised", "hover", "selected")


def _tokens(light: str) -> dict[str, str]:
    both = re.findall(r"--([a-z0-9-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", STYLES)
    return {name: dark if light == "dark" else bright for name, bright, dark in both}


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("light", LIGHTS)
def test_no_two_states_look_alike(light: str, eye: str) -> None:
    """Every two states differ by a distance of 10 at least, to every eye."""
    tokens = _tokens(light)
    seen = {state: seen_by(eye, linear(tokens[f"state-{state}"])) for state in STATES}
    near = {
        (one, other): round(distance(seen[one], seen[other]), 1)
        for one, other in itertools.combinations(STATES, 2)
        if distance(seen[one], seen[other]) < 10
    }
    assert near == {}


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("light", LIGHTS)
def test_signs_and_text_stand_out(light: str, ground: str) -> None:
    """A sign has a contrast of 3, text one of 4.5, on each ground that it stands on."""
    tokens = _tokens(light)
    weak = {
        name: round(contrast(linear(tokens[name]), linear(tokens[ground])), 2)
        for name, needed in [
            *((f"state-{state}", 3.0) for state in STATES),
            *((name, 4.5) for name in ("ink", "ink-2", "ink-3", "accent", "warning", "danger")),
            ("edge", 3.0),
            ("focus", 3.0),
        ]
        if contrast(linear(tokens[name]), linear(tokens[ground])) < needed
    }
    assert weak == {}


def test_the_distance_agrees_with_published_pairs() -> None:
    """Black and white are 100 apart, a colour is 0 from itself."""
    assert distance(linear("#000000"), linear("#ffffff")) == pytest.approx(100, abs=0.1)
    assert distance(linear("#b61e11"), linear("#b61e11")) == 0


def test_each_state_has_its_colour() -> None:
    """Every class that a state's sign may have is one of the style sheet."""
    used = {sign.css for sign in vars(states)["_SIGNS"].values()} | {"stopping"}
    assert used == set(STATES)
    assert all(f".state-{state} {{ --c: var(--state-{state}); }}" in STYLES for state in STATES)


def test_the_styles_are_small() -> None:
    """The style sheets of all pages, which a browser gets as one file, are at most 12 kB compressed."""
    assert {file.name for file in CSS.glob("*.css")} == {Path(name).name for name in BUNDLES["page-bundle.css"]}
    assert len(gzip.compress(b"\n".join((STATIC / name).read_bytes() for name in BUNDLES["page-bundle.css"]))) <= 12_000
