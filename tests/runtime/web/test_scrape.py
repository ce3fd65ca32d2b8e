"""A scrape: one text for all who ask within a second, and the loop goes on while it is written."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest

from daemon.adapters.telemetry.metrics import OPENMETRICS
from daemon.runtime.web.scrape import Scrape

PIECES = 5


class Source:
    """Pieces that are numbered by text. `begun`: how many texts were started. `written`: the pieces so far."""

    def __init__(self) -> None:
        self.begun = self.written = 0
        self.broken = False

    def pieces(self, accept: str) -> tuple[Iterator[bytes], str]:
        return self._text(), OPENMETRICS if OPENMETRICS in accept else "text/plain"

    def _text(self) -> Iterator[bytes]:
        self.begun += 1
        for _ in range(PIECES):
            if self.broken:
                raise RuntimeError("a bug")
            self.written += 1
            yield f"{self.begun} ".encode()


async def test_the_loop_goes_on_between_two_pieces() -> None:
    """A scrape of 500 providers must not hold up a renewal."""
    source = Source()
    seen = []
    scrape = asyncio.create_task(Scrape(source.pieces).text(""))
    while not scrape.done():
        seen.append(source.written)
        await asyncio.sleep(0)
    assert set(range(1, PIECES)) <= set(seen)
    assert await scrape == (b"1 " * PIECES, "text/plain")


async def test_who_asks_in_the_same_second_gets_the_same_text() -> None:
    """While it is written, and after that; each format has its own."""
    source = Source()
    scrape = Scrape(source.pieces)
    texts = await asyncio.gather(*(scrape.text("") for _ in range(10)))
    assert {text for text, _ in [*texts, await scrape.text("")]} == {b"1 " * PIECES}
    assert await scrape.text(OPENMETRICS) == (b"2 " * PIECES, OPENMETRICS)
    assert source.begun == 2


async def test_a_text_is_written_again_after_its_time() -> None:
    source = Source()
    scrape = Scrape(source.pieces, kept=timedelta(seconds=-1))
    assert [(await scrape.text(""))[0][:1] for _ in range(3)] == [b"1", b"2", b"3"]


async def test_one_who_hangs_up_takes_the_text_from_nobody() -> None:
    source = Source()
    scrape = Scrape(source.pieces)
    first, second = (asyncio.create_task(scrape.text("")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second)[0] == b"1 " * PIECES
    assert source.begun == 1


async def test_a_text_that_failed_is_not_kept() -> None:
    """The next scrape gets one."""
    source = Source()
    scrape = Scrape(source.pieces)
    source.broken = True
    with pytest.raises(RuntimeError, match="a bug"):
        await scrape.text("")
    source.broken = False
    assert (await scrape.text(""))[0] == b"2 " * PIECES
