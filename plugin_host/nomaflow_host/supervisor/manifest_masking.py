"""Masks credentials in what a manifest quotes of the authors' code: errors of imports, and defaults of parameters."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nomaflow_host.attempt.masking import Masker

_QUOTING = {"modules": ("error", "traceback"), "callables": ("error",)}


def masked_manifest(manifest: Mapping[str, Any], masker: Masker) -> dict[str, Any]:
    """Return a manifest without credentials in texts that the code has produced. Names and jobs stay as they are."""

    def text(value: Any) -> Any:
        return masker.text(value) if isinstance(value, str) else value

    def entry(found: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
        return {**found, **{key: text(found[key]) for key in keys if key in found}}

    masked = {
        section: {name: entry(found, keys) for name, found in manifest[section].items()}
        for section, keys in _QUOTING.items()
    }
    for found in masked["callables"].values():
        found["doc"] = text(found["doc"])
        found["parameters"] = [
            _parameter(entry(each, ("annotation", "default", "doc")), masker) for each in found["parameters"]
        ]
    problems = [entry(each, ("message",)) for each in manifest["problems"]]
    return {**manifest, **masked, "problems": problems}


def _parameter(found: dict[str, Any], masker: Masker) -> dict[str, Any]:
    """Return a parameter without any credential: a default that holds one is left out."""
    default = found.get("default_json", "")
    if masker.text(default) != default:
        del found["default_json"]
    if "schema" in found:
        found["schema"] = json.loads(masker.json(json.dumps(found["schema"])))
    return found
