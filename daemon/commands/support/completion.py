"""Ids and names for a shell's completion: quick, and silent whatever happens. It neither starts a MongoDB nor waits for one."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from daemon.adapters.state_files import MONGODB_URI
from daemon.commands.support.access import open_store, read_settings
from daemon.commands.support.options import Options
from daemon.domain.secret import Secret
from daemon.domain.visible import typed, visible
from daemon.runtime.config.settings import Settings

MOST = 50
PATIENCE = timedelta(seconds=1)


def ids(config: Path | None, incomplete: str) -> list[str]:
    """The first ids that begin with `incomplete`, as a list prints them."""
    with suppress(Exception):
        settings = read_settings(Options(config=config))
        if isinstance(settings.store.uri, Secret) or (settings.state_dir / MONGODB_URI).exists():
            return asyncio.run(_ids(settings, typed(incomplete)))
    return []


def hooks(config: Path | None, incomplete: str) -> list[str]:
    """The names of hooks that begin with `incomplete`."""
    with suppress(Exception):
        names = (one.name for one in read_settings(Options(config=config)).hooks)
        return [name for name in names if name.startswith(incomplete)]
    return []


async def _ids(settings: Settings, start: str) -> list[str]:
    async with asyncio.timeout(PATIENCE.total_seconds()), open_store(settings) as access:
        return [visible(name) for name in await access.lookup.beginning(start, limit=MOST)]
