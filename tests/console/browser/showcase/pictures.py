"""Takes the pictures of docs/screenshots: the four main pages of the showcase, light, dark and on a phone.

``make screenshots`` runs it. Look at what it made before you commit it.
"""

from __future__ import annotations

import asyncio
import io
import shutil
import sys
import tempfile
from collections import Counter
from math import dist
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).parents[3]
_ROOT = _TESTS.parent
sys.path[:0] = [str(_TESTS), str(_TESTS / "console"), str(_TESTS / "console" / "browser")]

from browser_tabs import CHROMIUM, Tabs  # noqa: E402  # found by the line above
from console_system import ConsoleSystem  # noqa: E402
from PIL import Image  # noqa: E402
from playwright.async_api import Page, async_playwright  # noqa: E402

from showcase.stage import running_showcase  # noqa: E402

_EXACT = 128
"""Colours of a picture that stay exactly what they are."""
_OUT = _ROOT / "docs" / "screenshots"
_KINDS: dict[str, dict[str, Any]] = {
    "light": {"size": (1280, 800), "theme": "light"},
    "dark": {"size": (1280, 800), "theme": "dark"},
    "phone": {"size": (390, 780), "theme": "light"},
}


def _pages(made: ConsoleSystem) -> dict[str, str]:
    """Return the address of each page by the name of its picture."""
    failed = next(run for run in made.system.api.list_runs(job_id="month-end", states=["FAILED"]))
    return {"jobs": "/", "runs": "/runs", "run": f"/runs/{failed.run_id}", "hosts": "/hosts"}


async def _settled(page: Page) -> None:
    """Wait until a page has its styles, its first live message, and its log."""
    await page.wait_for_load_state("load")
    await page.wait_for_timeout(1500)
    await page.mouse.move(0, 0)


async def take(made: ConsoleSystem, out: Path) -> list[Path]:
    """Take all pictures; return their files."""
    out.mkdir(parents=True, exist_ok=True)
    files = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--hide-scrollbars"])
        tabs = Tabs(browser=browser, console=made)
        for name, path in _pages(made).items():
            for kind, options in _KINDS.items():
                page = await tabs.open(path, still=True, **options)
                await _settled(page)
                files.append(out / f"{name}-{kind}.png")
                files[-1].write_bytes(_smaller(await page.screenshot()))
                await tabs.close()
        await browser.close()
    assert not tabs.complaints, "\n".join(tabs.complaints)
    return files


def _smaller(picture: bytes) -> bytes:
    """Return a picture in 256 colours: the frequent ones, such as those of areas, as they are, and the others nearly.

    Pillow finds the nearest of given colours only roughly: white areas would have a tint.
    """
    out, whole = io.BytesIO(), Image.open(io.BytesIO(picture)).convert("RGB")
    others = whole.quantize(256 - _EXACT, method=Image.Quantize.MAXCOVERAGE).getpalette() or []
    pixels = [*zip(*[iter(whole.tobytes())] * 3, strict=True)]
    count = Counter(pixels)
    palette = [colour for colour, _ in count.most_common(_EXACT)] + [*zip(*[iter(others)] * 3, strict=True)]
    nearest = {colour: min(range(len(palette)), key=lambda at: dist(palette[at], colour)) for colour in count}
    few = Image.frombytes("P", whole.size, bytes(nearest[each] for each in pixels))
    few.putpalette([part for colour in palette for part in colour])
    few.save(out, "PNG", optimize=True)
    return out.getvalue()


def main() -> None:
    """Take the pictures."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else _OUT
    folder = Path(tempfile.gettempdir()) / "northwind"  # its name is on some pictures
    folder.mkdir(mode=0o700)
    try:
        with running_showcase(folder) as made:
            for file in asyncio.run(take(made, out)):
                print(f"{file.name}  {file.stat().st_size / 1024:.0f} kB")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
