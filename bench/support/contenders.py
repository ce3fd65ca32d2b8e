"""Who runs in compare_rivals.py: the daemon, and what a user would build instead. The rivals' programs are in rivals/."""

from collections.abc import Callable
from dataclasses import dataclass

from support.installed import NODE, VENV
from support.running import CeleryRival, Place, Refreshd, RefreshdTwice, Rival, Running


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """`tokens`: so many that a run takes 5 to 15 s. `in_flight`: the best of those that were tried."""

    name: str
    tokens: int
    in_flight: int
    start: Callable[[Place, int], Running]
    needs: tuple[str, ...] = ()


def _node(program: str) -> Callable[[Place, int], Rival]:
    return lambda place, in_flight: Rival(("node", NODE / program), place, in_flight)


def _asyncio(place: Place, in_flight: int) -> Rival:
    return Rival((VENV / "bin" / "python", "asyncio_authlib.py"), place, in_flight)


CONTENDERS = (
    Contender(name="refreshd", tokens=30_000, in_flight=1024, start=Refreshd),  # of 256, 512 and 1024
    Contender(name="refreshd, two daemons", tokens=30_000, in_flight=1024, start=RefreshdTwice),
    Contender(
        name="Agenda + simple-oauth2",
        tokens=8_000,
        in_flight=16,  # of 8, 16, 32, 64 and 256
        start=_node("idiomatic.js"),
        needs=("node", "npm"),
    ),
    Contender(
        name="Agenda + undici, hand-tuned",
        tokens=12_000,
        in_flight=16,  # of 16, 32, 64 and 256
        start=_node("hand_tuned.js"),
        needs=("node", "npm"),
    ),
    Contender(
        name="Celery + Authlib",
        tokens=2_500,
        in_flight=4,  # worker processes: of 2, 4 and 8
        start=CeleryRival,
        needs=("redis-server",),
    ),
    Contender(
        name="asyncio + Authlib",
        tokens=5_000,
        in_flight=8,  # of 4, 8, 16, 32, 64 and 128
        start=_asyncio,
    ),
)
