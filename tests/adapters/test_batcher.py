"""One commit for many callers, and to each caller his own result."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from daemon.adapters.batcher import Batcher


class Press:
    """A commit that stops at a gate, so that a test decides when it ends."""

    def __init__(self, *, limit: int = 100, patience: timedelta = timedelta(0)) -> None:
        self.batches: list[list[object]] = []
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.batcher: Batcher[object, object] = Batcher(self.commit, limit=limit, patience=patience)

    async def commit(self, items: Sequence[object]) -> list[object]:
        self.batches.append(list(items))
        self.begun.set()
        await self.gate.wait()
        return [item if isinstance(item, BaseException) else f"did {item}" for item in items]


async def test_a_lone_item_is_committed_at_once():
    """With nothing else to do the item's commit begins without any timer: in the loop's next turn."""
    press = Press()
    future = press.batcher.submit("a")
    await asyncio.sleep(0)
    assert press.batches == [["a"]]
    assert await future == "did a"


async def test_what_comes_during_a_commit_shares_the_next_one():
    """While one commit runs the others gather, and go together in the order they came."""
    press = Press()
    press.gate.clear()
    first = press.batcher.submit("a")
    await press.begun.wait()
    rest = [press.batcher.submit(name) for name in "bcd"]
    press.gate.set()
    assert await asyncio.gather(first, *rest) == ["did a", "did b", "did c", "did d"]
    assert press.batches == [["a"], ["b", "c", "d"]]


async def test_each_caller_gets_its_own_result_or_exception():
    """One item's exception reaches its own caller, and nobody else."""
    press = Press()
    results = await asyncio.gather(
        *map(press.batcher.submit, ["a", KeyError("mine"), "c"]), return_exceptions=True
    )
    assert results[0] == "did a"
    assert isinstance(results[1], KeyError)
    assert results[2] == "did c"


async def test_a_batch_holds_no_more_than_the_limit():
    """Seven items at a limit of three make three commits, none lost and none twice."""
    press = Press(limit=3)
    await asyncio.gather(*map(press.batcher.submit, range(7)))
    assert press.batches == [[0, 1, 2], [3, 4, 5], [6]]


async def test_a_failing_commit_is_raised_to_all_of_its_batch_and_the_next_one_goes_on():
    """What the commit itself raises meets everybody in it; who came meanwhile is not touched."""
    fails = [OSError("the disk is full")]

    async def commit(items: Sequence[str]) -> list[str]:
        await asyncio.sleep(0)
        if fails:
            raise fails.pop()
        return list(items)

    batcher: Batcher[str, str] = Batcher(commit, limit=10)
    first, second = batcher.submit("a"), batcher.submit("b")
    await asyncio.sleep(0)
    third = batcher.submit("c")
    for lost in (first, second):
        with pytest.raises(OSError, match="full"):
            await lost
    assert await third == "c"


async def test_a_caller_that_goes_away_takes_nothing_out_of_the_commit():
    """Cancelled while it waited, its item is committed all the same and the others get their answers."""
    press = Press()
    press.gate.clear()
    first = press.batcher.submit("a")
    await press.begun.wait()

    async def caller() -> object:
        return await press.batcher.submit("b")

    leaving = asyncio.create_task(caller())
    await asyncio.sleep(0)
    staying = press.batcher.submit("c")
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    press.gate.set()
    assert await staying == "did c"
    assert await first == "did a"
    assert press.batches == [["a"], ["b", "c"]]


async def test_a_commit_that_answers_too_few_leaves_nobody_waiting():
    """A bug in a commit is an error for all of its callers, not a silence for some."""

    async def commit(items: Sequence[str]) -> list[str]:
        return list(items)[1:]

    batcher: Batcher[str, str] = Batcher(commit, limit=10)
    results = await asyncio.wait_for(
        asyncio.gather(batcher.submit("a"), batcher.submit("b"), return_exceptions=True), 5
    )
    assert [type(result) for result in results] == [RuntimeError, RuntimeError]


async def test_a_commit_that_is_cancelled_is_an_error_for_its_callers_and_not_their_own_cancellation():
    """Its callers get an ordinary exception, those that wait for the next commit too, and a new item begins anew."""
    ends = [asyncio.CancelledError()]
    begun = asyncio.Event()

    async def commit(items: Sequence[str]) -> list[str]:
        begun.set()
        await asyncio.sleep(0)
        if ends:
            raise ends.pop()
        return list(items)

    batcher: Batcher[str, str] = Batcher(commit, limit=10)
    first = batcher.submit("a")
    await begun.wait()
    second = batcher.submit("b")
    async with asyncio.timeout(5):
        results = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(result) for result in results] == [RuntimeError, RuntimeError]
    assert "CancelledError" in str(results[0])
    assert await batcher.submit("c") == "c"


@pytest.mark.parametrize("apart", [timedelta(0), timedelta(hours=1)], ids=["in a commit", "between two"])
async def test_a_cancelled_runner_leaves_nobody_waiting(apart):
    """As at the end of the loop: whether a commit runs or the next one is waited for, each caller gets an error."""
    begun, gate = asyncio.Event(), asyncio.Event()

    async def commit(items: Sequence[str]) -> list[str]:
        begun.set()
        if not apart:
            await gate.wait()
        return list(items)

    batcher: Batcher[str, str] = Batcher(commit, limit=10, apart=apart)
    first = batcher.submit("a")
    await begun.wait()
    if apart:
        assert await first == "a"
    second = batcher.submit("b")
    assert batcher._runner is not None
    batcher._runner.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(RuntimeError, match="ended early"):
            await second
        if not apart:
            with pytest.raises(RuntimeError, match="ended early"):
                await first


async def test_commits_begin_apart_from_each_other_but_a_lone_item_waits_for_none():
    began = []

    async def commit(items):
        began.append(asyncio.get_running_loop().time())
        return [None] * len(items)

    async with asyncio.timeout(5):
        await Batcher(commit, limit=10, apart=timedelta(hours=1)).submit(0)
    began.clear()
    batcher = Batcher(commit, limit=10, apart=timedelta(milliseconds=50))
    await batcher.submit(1)
    await asyncio.gather(batcher.submit(2), batcher.submit(3))
    assert len(began) == 2
    assert began[1] - began[0] >= 0.05


LONG = timedelta(hours=1)


async def test_an_item_that_nobody_awaits_goes_with_the_next_that_somebody_does():
    """It begins no commit of its own, neither before another one nor after it, and keeps its place."""
    press = Press(patience=LONG)
    press.batcher.put("a")
    await asyncio.sleep(0)
    assert press.batches == []
    press.gate.clear()
    second = press.batcher.submit("b")
    await press.begun.wait()
    press.batcher.put("c")
    press.gate.set()
    assert await second == "did b"
    await press.batcher.submit("d")
    assert press.batches == [["a", "b"], ["c", "d"]]


async def test_an_item_that_nobody_awaits_goes_alone_if_nothing_else_comes():
    """Once its patience is over, whether nothing else was committed before or it arrived during a commit."""
    press = Press(patience=timedelta(milliseconds=1))
    press.batcher.put("a")
    async with asyncio.timeout(5):
        await press.begun.wait()
        press.gate.clear()
        first = press.batcher.submit("b")
        press.batcher.put("c")
        press.gate.set()
        await first
        while len(press.batches) < 2 or press.batches[-1][-1] != "c":
            await asyncio.sleep(0.001)
    assert [item for batch in press.batches for item in batch] == ["a", "b", "c"]


async def test_a_flush_commits_what_nobody_awaits():
    """All of it, batch by batch, and nothing if nothing waits."""
    press = Press(limit=2, patience=LONG)
    await press.batcher.flush()
    assert press.batches == []
    for item in range(5):
        press.batcher.put(item)
    await press.batcher.flush()
    assert press.batches == [[0, 1], [2, 3], [4]]
    await press.batcher.flush()
    assert len(press.batches) == 3


async def test_the_end_of_patience_commits_nothing_that_has_gone_already():
    """The limit took the last item along with others, although its own patience had just begun."""
    press = Press(limit=1, patience=timedelta(milliseconds=20))
    press.gate.clear()
    first, second = press.batcher.submit("a"), press.batcher.submit("b")
    await press.begun.wait()
    press.batcher.put("c")
    press.gate.set()
    await asyncio.gather(first, second)
    await asyncio.sleep(0.1)
    assert press.batches == [["a"], ["b"], ["c"]]


async def test_it_can_be_used_again_after_it_was_idle():
    """Its runner ends with the last item and begins again with the next."""
    press = Press()
    assert await press.batcher.submit("a") == "did a"
    await asyncio.sleep(0)
    assert await press.batcher.submit("b") == "did b"
    assert press.batches == [["a"], ["b"]]
