"""`refreshd run`: the daemon itself. Here its failures to start become sentences and exit codes."""

import asyncio
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

from daemon import __version__
from daemon.adapters.embedded_mongod import MongodFailed, MongodMissing
from daemon.adapters.event_log import configure
from daemon.adapters.journal import JournalDamaged, JournalFull
from daemon.adapters.mongo import StoreUriInvalid
from daemon.commands.failure import Exit
from daemon.runtime.daemon import Daemon
from daemon.runtime.filesystem import caution
from daemon.runtime.health import PortTaken
from daemon.runtime.instance import StateHeld, StateUnusable, take
from daemon.runtime.service_manager import ServiceManager
from daemon.runtime.settings import Settings, SettingsInvalid, load

# A renewal makes hundreds of objects that die young and in no cycle: looking for cycles after every 700 is wasted.
GC_THRESHOLDS = (50_000, 20, 50)


def run(config: Path | None, env_file: Path | None) -> int:
    """Run the daemon until a signal. Returns the exit code; says on standard error why it could not start."""

    def read() -> Settings:
        return load(config, os.environ, env_file)

    try:
        settings = read()
        return _run(settings, read)
    except SettingsInvalid as invalid:
        for problem in invalid.problems:
            _say(str(problem))
        return Exit.CONFIG
    except JournalFull as why:
        _say(str(why))
        return Exit.FAILED
    except (StateUnusable, StoreUriInvalid, JournalDamaged, MongodMissing) as why:
        _say(str(why))
        return Exit.CONFIG
    except StateHeld as why:
        _say(str(why))
        return Exit.HELD
    except PortTaken as why:
        _say(f"server.port: {why}. Stop that process, or choose another server.port")
        return Exit.HELD
    except OSError as why:
        _say(f"server.host: can't listen on it ({why.strerror or why}). Choose an address of this machine")
        return Exit.CONFIG
    except MongodFailed as why:
        _say(str(why))
        return Exit.UNAVAILABLE


def _run(settings: Settings, read: Callable[[], Settings]) -> int:
    instance = take(settings.state_dir)
    log = configure(format=settings.log.format.value, level=settings.log.level.value)
    if instance.filesystem is not None and (why := caution(instance.filesystem)) is not None:
        log.log(
            "state.volatile",
            "warning",
            message=f"state.dir is on {instance.filesystem}: {why}",
            do="choose a directory on a disk that lasts: the journal may hold the only copy of a token",
        )
    daemon = Daemon(
        settings,
        instance=instance,
        log=log,
        manager=ServiceManager(os.environ),
        reload=read,
        greet=_greet if sys.stdout.isatty() else lambda _url: None,
    )
    gc.collect()
    gc.freeze()  # what is loaded by now stays; the collector need not look at it again
    gc.set_threshold(*GC_THRESHOLDS)
    return asyncio.run(daemon.run())


def _greet(url: str) -> None:
    print(
        f"\n  refreshd {__version__}\n  status page  {url}/\n  metrics      {url}/metrics\n  stop with Ctrl-C\n",
        flush=True,
    )


def _say(text: str) -> None:
    print(f"refreshd: {text}", file=sys.stderr)
