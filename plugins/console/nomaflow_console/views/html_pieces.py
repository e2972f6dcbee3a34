"""Small pieces of HTML that pages repeat hundreds of times. As functions they cost a fifth of what macros do.

Those of a row are the same each time that the page is shown, so the short ones are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, cast

from markupsafe import Markup, escape

from nomaflow_telemetry.visible_text import visible

_P = ParamSpec("_P")
_KEPT, _SHORT = 1024, 512
"""How many pieces are kept of a kind, and the characters that each is made of at most."""


def kept(make: Callable[_P, Markup]) -> Callable[_P, Markup]:
    """Keep the pieces that were made last of short texts."""
    known = cast("Callable[_P, Markup]", lru_cache(maxsize=_KEPT)(make))

    @wraps(make)
    def piece(*args: _P.args, **kwargs: _P.kwargs) -> Markup:
        length = sum(len(each) for each in (*args, *kwargs.values()) if isinstance(each, str))
        return (known if length <= _SHORT else make)(*args, **kwargs)

    return piece


@lru_cache(maxsize=128)
def icon(name: str) -> Markup:
    """Return an icon, which says nothing to who does not see it.

    :param name: of a symbol of the page's sprite
    """
    return Markup('<svg class="icon" aria-hidden="true"><use href="#i-{}"/></svg>').format(name)


@kept
def text(value: str) -> Markup:
    """Return text that is escaped, with its controls and marks of direction spelled out, as templates print it."""
    return escape(visible(value))


@kept
def button(
    label: str, icon_name: str = "", *, href: str = "", kind: str = "", square: bool = False, key: str = ""
) -> Markup:
    """Return a button, or a link that looks like one where there is an address.

    :param kind: empty, or the classes ``primary``, ``danger``, ``plain``
    :param square: True to show the icon only
    :param key: the key that uses it
    """
    told = text(label)
    tag, attributes = ("a", f' href="{text(href)}"') if href else ("button", "")
    if square:
        attributes += f' aria-label="{told}" title="{told}"'
    if key:
        attributes += f' data-key="{escape(key)}"'
    shown = f"{icon(icon_name) if icon_name else ''}{'' if square else told}"
    css = f"button {escape(kind)}{' square' if square else ''}"
    return Markup(f'<{tag} class="{css}"{attributes}>{shown}</{tag}>')  # noqa: S704  # escaped above


@kept
def command(line: str) -> Markup:
    """Return the command line that does the same, to copy. It breaks between words only."""
    told = text(line)
    shown = " ".join(f"<span>{word}</span>" for word in told.split(" "))
    return Markup(  # noqa: S704  # escaped above
        f'<div class="command"><span aria-hidden="true">$</span><code>{shown}</code><button type="button"'
        f' class="button plain square" data-copy="{told}" aria-label="Copy the command" title="Copy the command">'
        f"{icon('copy')}</button></div>"
    )


@kept
def item(label: str, icon_name: str, href: str) -> Markup:
    """Return a line of a menu that leads to an address."""
    return Markup(f'<a class="item" href="{text(href)}">{icon(icon_name)}{text(label)}</a>')  # noqa: S704  # escaped


def row_menu(label: str, items: str) -> Markup:
    """Return what else may be done with a row: a menu behind three dots.

    :param label: what it is called where it is not seen
    :param items: HTML
    """
    summary = f'<summary aria-label="{text(label)}">{icon("more-horizontal")}</summary>'
    return Markup(f'<details class="menu">\n{summary}\n<div>{items}</div>\n</details>')  # noqa: S704  # escaped above
