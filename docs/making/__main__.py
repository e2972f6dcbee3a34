"""``python -m docs.making``: writes the generated pages into the folder that this package is in."""

from __future__ import annotations

from pathlib import Path

from docs.making.pages import write_pages

write_pages(Path(__file__).parent.parent)
