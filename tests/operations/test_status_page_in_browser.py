"""The status page as a browser shows it: light and dark, wide and narrow, well and failing, without a script.

With REFRESHD_DOCS_IMAGES=1 the screenshots are written to docs/images.
"""

import os
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path

import pytest

from daemon.runtime.web.server import HealthServer
from tests.operations.browser import CHROMIUM, Tab, tab
from tests.operations.pictures import squeezed
from tests.runtime.web.statuses import FAILING, HEALTHY, ILL, WELL

pytestmark = [
    pytest.mark.operations,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on PATH"),
]

IMAGES = Path(__file__).parents[2] / "docs" / "images"
SIZES = {"wide": (1280, 900), "phone": (390, 844), "narrow": (360, 640)}
STATUSES = {"healthy": (HEALTHY, WELL), "failing": (FAILING, ILL)}
LARGEST = 180_000  # bytes of a picture in the documents


class Source:
    draining = False

    def __init__(self, name: str) -> None:
        self.told, self.checks = STATUSES[name]

    def liveness(self) -> tuple[bool, str]:
        return True, "fine"

    async def readiness(self) -> Mapping[str, tuple[bool, str]]:
        return self.checks

    async def status(self) -> Mapping[str, object]:
        return self.told

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        return b"", "text/plain"


@asynccontextmanager
async def served(name: str) -> AsyncIterator[str]:
    server = HealthServer(Source(name), host="127.0.0.1", port=0)
    await server.start()
    try:
        yield f"http://127.0.0.1:{server.port}/"
    finally:
        await server.stop()


@pytest.fixture
async def page(address: str) -> AsyncIterator[Tab]:
    async with tab(address) as one:
        yield one


async def keep(page: Tab, name: str, png: bytes) -> None:
    if os.environ.get("REFRESHD_DOCS_IMAGES") == "1":
        small = await squeezed(page, png)
        assert size(small) == size(png)
        assert len(small) < LARGEST
        IMAGES.mkdir(exist_ok=True)
        Path(IMAGES, f"status-{name}.png").write_bytes(small)


def size(png: bytes) -> tuple[int, int]:
    """Width and height, from the picture's own header."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert zlib.crc32(png[12:29]) == int.from_bytes(png[29:33], "big")
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


@pytest.mark.parametrize(("name", "shape", "dark"), list(product(STATUSES, SIZES, (False, True))))
async def test_it_fits_asks_for_nothing_and_complains_of_nothing(
    page: Tab, name: str, shape: str, dark: bool
) -> None:
    """No sideways scrolling, no request but the page's own, a silent console, and a picture of it that can be kept."""
    width, height = SIZES[shape]
    async with served(name) as url:
        await page.show(width=width, height=height, dark=dark)
        await page.go(url)
        assert await page.value("document.documentElement.scrollWidth") <= width
        wider = "[...document.body.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
        assert await page.value(f"{wider}.map(e => e.outerHTML.slice(0, 80))") == []
        png = await page.screenshot()
    assert page.requests == [url]
    assert page.complaints == []
    assert size(png)[0] == width
    if shape != "narrow" and not (shape == "phone" and dark):
        await keep(page, f"{name}-{shape}-{'dark' if dark else 'light'}", png)


async def test_dark_is_dark_and_light_is_light(page: Tab) -> None:
    """The same page under both schemes: ink and ground change places."""
    brightness = (
        "(e => getComputedStyle(document.body)[e].match(/\\d+/g).map(Number).reduce((a, b) => a + b) / 765)"
    )
    seen = {}
    async with served("healthy") as url:
        for dark in (False, True):
            await page.show(width=1280, height=900, dark=dark)
            await page.go(url)
            seen[dark] = [
                await page.value(f"{brightness}('{which}')") for which in ("backgroundColor", "color")
            ]
    (ground, ink), (dark_ground, dark_ink) = seen[False], seen[True]
    assert (ground > 0.9, ink < 0.3) == (True, True)
    assert (dark_ground < 0.2, dark_ink > 0.8) == (True, True)


async def test_it_needs_no_script(page: Tab) -> None:
    """With scripts switched off it is the same picture, to the byte."""
    pictures = []
    async with served("failing") as url:
        for scripts in (True, False):
            await page.show(width=1280, height=900, dark=False, scripts=scripts)
            await page.go(url)
            pictures.append(await page.screenshot())
    assert pictures[0] == pictures[1]


async def test_a_token_id_is_text_whatever_it_says(page: Tab) -> None:
    """An account may be called <script>; no element comes of it."""
    async with served("failing") as url:
        await page.go(url)
        assert await page.value("document.scripts.length") == 0
        assert "xero:<script>alert(1)</script>" in await page.value("document.body.innerText")
    assert page.complaints == []


async def test_who_can_not_see_it_hears_all_of_it(page: Tab) -> None:
    """Chromium's own accessibility tree: landmarks with names, headings in order, plots with descriptions, tables that
    stay tables on a phone.
    """
    async with served("failing") as url:
        await page.show(width=390, height=844, dark=False)
        await page.go(url)
        await page("Accessibility.enable")
        nodes = (await page("Accessibility.getFullAXTree"))["nodes"]
    heard: dict[str, list[dict[str, str]]] = {}
    for node in nodes:
        if not node.get("ignored"):
            said = {key: node.get(key, {}).get("value", "") for key in ("name", "description")}
            heard.setdefault(node["role"]["value"], []).append(said)
    assert {"banner", "main", "contentinfo"} <= set(heard)
    assert [one["name"] for one in heard["region"]][1:3] == ["Tokens", "The next hour"]
    assert all(one["name"] for one in heard["region"])
    plots = heard.get("image", []) + heard.get("img", [])
    assert len(plots) == 4
    assert all(one["name"] and one["description"] for one in plots)
    tables = [one["name"] for one in heard["table"]]
    assert {"Providers", "Checks", "Last failures: rejected"} <= set(tables)
    assert len(heard["columnheader"]) > len(tables)
    assert len(heard["rowheader"]) > len(tables)
