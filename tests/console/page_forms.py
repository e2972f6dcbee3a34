"""Reads pages as a browser without scripts does: forms with their fields, and what stands on the page."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

import httpx

__all__ = ["PageForm", "form_of", "text_of"]


@dataclass(kw_only=True)
class PageForm:
    """One form as a browser would send it.

    :param fields: names and values, boxes that are not checked left out
    """

    action: str
    method: str
    fields: list[tuple[str, str]] = field(default_factory=list)

    def value(self, name: str) -> str | None:
        """Return the value of a field; None if the form has none, or its box is not checked."""
        return next((value for known, value in self.fields if known == name), None)

    def fill(self, **values: str | None) -> PageForm:
        """Return the form filled in; None unchecks a box. Dots in names are written as two underscores."""
        given = {name.replace("__", "."): value for name, value in values.items()}
        kept = [(name, value) for name, value in self.fields if name not in given]
        return PageForm(
            action=self.action,
            method=self.method,
            fields=kept + [(name, value) for name, value in given.items() if value is not None],
        )

    def send(self, client: httpx.Client, **button: str) -> httpx.Response:
        """Send it, pressing a button."""
        data: dict[str, list[str]] = {}
        for name, value in (*self.fields, *button.items()):
            data.setdefault(name, []).append(value)
        return client.post(self.action, data=data, follow_redirects=False)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.forms: list[PageForm] = []
        self.by_id: dict[str, PageForm] = {}
        self._open: PageForm | None = None
        self._select: tuple[PageForm, str, list[str]] | None = None
        self._area: tuple[PageForm, str] | None = None
        self._text = ""

    def _form_of(self, attributes: dict[str, str | None]) -> PageForm | None:
        owner = attributes.get("form")
        return self.by_id.get(owner) if owner else self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form":
            self._open = PageForm(action=given.get("action") or "", method=given.get("method") or "get")
            self.forms.append(self._open)
            if given.get("id"):
                self.by_id[str(given["id"])] = self._open
            return
        form, name = self._form_of(given), given.get("name")
        if form is None or name is None:
            if tag == "option" and self._select is not None:
                self._option(given)
            return
        if tag == "input":
            kind = given.get("type") or "text"
            if kind not in ("checkbox", "radio") or "checked" in given:
                form.fields.append((name, given.get("value") or ("on" if kind == "checkbox" else "")))
        elif tag == "select":
            self._select = form, name, []
        elif tag == "textarea":
            self._area, self._text = (form, name), ""

    def _option(self, given: dict[str, str | None]) -> None:
        assert self._select is not None
        chosen = self._select[2]
        if not chosen or "selected" in given:
            chosen[:] = [given.get("value") or ""]

    def handle_data(self, data: str) -> None:
        if self._area is not None:
            self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = None
        elif tag == "select" and self._select is not None:
            form, name, chosen = self._select
            form.fields.append((name, chosen[0] if chosen else ""))
            self._select = None
        elif tag == "textarea" and self._area is not None:
            # The first line end after the tag is none of the text.
            self._area[0].fields.append((self._area[1], self._text.removeprefix("\n")))
            self._area = None


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.parts.append(data)


def form_of(answer: httpx.Response, action: str) -> PageForm:
    """Return the form of a page that is sent to an address."""
    reader = _Forms()
    reader.feed(answer.text)
    found = [form for form in reader.forms if form.action == action]
    assert found, f"no form for {action}; there are {[form.action for form in reader.forms]}"
    return found[0]


def text_of(answer: httpx.Response) -> str:
    """Return the text of a page, blanks as one."""
    reader = _Text()
    reader.feed(answer.text)
    return " ".join(" ".join(reader.parts).split())
