"""``settings``: the project's live configuration, read-only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from nomaflow_api.credential_signs import names_credential, without_url_passwords
from nomaflow_api.near_names import near_name

__all__ = ["Settings"]

_OF_A_DICT = ("keys", "values", "items")
_DEFAULTS: Mapping[str, Any] = {
    "app": {},
    "connectors": {"config_path": None},
    "jobs": {"config_path": None},
}


class Settings:
    """Configuration with attribute access: ``settings.connectors.config_path``, ``settings.app.region``.

    Sections are Settings too, lists are tuples. ``settings["app"]``, ``in``, iteration over the names, `get`,
    ``dict(settings.app)`` and ``settings.app.items()`` work as well; a key of the file that is called ``items``,
    ``keys`` or ``values`` wins. Its repr hides what looks like a secret.

    A test creates one with the values that it needs: ``Settings(app={"region": "eu"})``. The sections ``app``,
    ``connectors`` and ``jobs`` always exist.

    :param values: the whole tree
    :param sections: further sections, by name
    """

    __slots__ = ("_path", "_values")

    _path: str
    _values: Mapping[str, Any]

    def __init__(self, values: Mapping[str, Any] | None = None, /, **sections: Any) -> None:
        """Take a copy of the tree."""
        merged = {**_DEFAULTS, **(values or {}), **sections}
        self._fill(merged, "settings")

    @classmethod
    def _section(cls, values: Mapping[str, Any], path: str) -> Settings:
        section = cls.__new__(cls)
        section._fill(values, path)  # noqa: SLF001 - an instance of this class, being made
        return section

    def _fill(self, values: Mapping[str, Any], path: str) -> None:
        object.__setattr__(self, "_path", path)
        frozen = {str(name): _freeze(value, f"{path}.{name}") for name, value in values.items()}
        object.__setattr__(self, "_values", frozen)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in Settings.__slots__:
            raise AttributeError(name)
        try:
            return self._values[name]
        except KeyError:
            if name in _OF_A_DICT:
                return getattr(self._values, name)
            raise AttributeError(self._unknown(name)) from None

    def __getitem__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise KeyError(self._unknown(name)) from None

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of *name*, or *default* if there is none."""
        return self._values.get(name, default)

    def to_dict(self) -> dict[str, Any]:
        """Return a copy of the tree in plain dicts and lists, secrets included."""
        return {name: _thaw(value) for name, value in self._values.items()}

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __dir__(self) -> list[str]:
        return sorted([*super().__dir__(), *self._values])

    def __eq__(self, other: object) -> bool:
        return self._values == other._values if isinstance(other, Settings) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # a tree of any values has no hash

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{self._path} is read-only, so {name!r} cannot be set (edit nomaflow.toml)")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{self._path} is read-only, so {name!r} cannot be deleted (edit nomaflow.toml)")

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={_shown(name, value)}" for name, value in self._values.items())
        return f"Settings({shown})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Settings._section, (self.to_dict(), self._path)

    def _unknown(self, name: str) -> str:
        near = near_name(name, self._values)
        hint = f"did you mean {near!r}?" if near else f"known: {', '.join(sorted(self._values)) or 'none'}"
        return f"{self._path} has no {name!r} ({hint})"


def _freeze(value: Any, path: str) -> Any:
    if isinstance(value, Mapping):
        return Settings._section(value, path)  # noqa: SLF001 - the same class, one level down
    if isinstance(value, (list, tuple)):
        return tuple(_freeze(item, f"{path}[{index}]") for index, item in enumerate(value))
    return value


def _thaw(value: Any) -> Any:
    if isinstance(value, Settings):
        return value.to_dict()
    return [_thaw(item) for item in value] if isinstance(value, tuple) else value


def _shown(name: str, value: Any) -> str:
    if isinstance(value, Settings):
        return repr(value)
    if value is not None and not isinstance(value, bool) and names_credential(name):
        return "'***'"
    if isinstance(value, tuple):
        return "(" + ", ".join(_shown(name, item) for item in value) + ")"
    return repr(without_url_passwords(value) if isinstance(value, str) else value)
