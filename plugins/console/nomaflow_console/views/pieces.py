"""Small pieces of HTML that pages repeat hundreds of times. As functions they cost a fifth of what macros do.

Those of a row are the same each time that the page is shown, so they are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from markupsafe import Markup, escape

from nomaflow_telemetry.visible_text import visible

__all__ = ["button", "command", "icon", "item", "row_menu", "text", "words"]


_KEPT = 2048
_SHORT = 64
"""Characters of a text that is kept."""


@lru_cache(maxsize=128)
def icon(name: str) -> Markup:
    """Return an icon, which says nothing to who does not see it.

    :param name: of a symbol of the page's sprite
    """
    return Markup('<svg class="icon" aria-hidden="true"><use href="#i-{}"/></svg>').format(name)


def text(value: str) -> Markup:
    """Return text that is escaped, with its controls and marks of direction spelled out, as templates print it."""
    return _short_text(value) if len(value) <= _SHORT else escape(visible(value))


@lru_cache(maxsize=_KEPT)
def _short_text(value: str) -> Markup:
    return escape(visible(value))


@lru_cache(maxsize=_KEPT)
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


@lru_cache(maxsize=_KEPT)
def command(line: str) -> Markup:
    """Return the command line that does the same, to copy. It breaks between words only."""
    told = text(line)
    shown = " ".join(f"<span>{word}</span>" for word in told.split(" "))
    return Markup(  # noqa: S704  # escaped above
        f'<div class="command"><span aria-hidden="true">$</span><code>{shown}</code><button type="button"'
        f' class="button plain square" data-copy="{told}" aria-label="Copy the command" title="Copy the command"'
        f" hidden>{icon('copy')}</button></div>"
    )


@lru_cache(maxsize=_KEPT)
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


def words() -> dict[str, Callable[..., Markup]]:
    """Return what templates call."""
    return {"button": button, "command": command, "icon": icon}
