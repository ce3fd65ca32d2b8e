"""The machine: its state directory, the journal in it, and its clock."""

import os
import stat
from pathlib import Path

from daemon.adapters.journal.disk_reserve import allocated, bytes_for, shortage
from daemon.adapters.journal.inspection import is_whole
from daemon.adapters.state_files import JOURNAL
from daemon.adapters.trusted_files import Untrusted, open_mode, trust
from daemon.commands.checks.report import Report
from daemon.commands.support.failure import Exit
from daemon.runtime.clock import Clock
from daemon.runtime.config.settings import Settings
from daemon.runtime.state.filesystem import filesystem_at, is_remote, mounts


def check_state(settings: Settings, report: Report) -> None:
    """The journal needs a directory on a disk of this machine that takes writes, and room; one that is there must be
    whole.
    """
    directory = settings.state_dir
    existing = next((path for path in (directory, *directory.parents) if path.exists()), directory)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        report.problem(
            "state.dir",
            f"{directory} is not a directory that this user may write to",
            "Correct state.dir, or the directory's owner and mode.",
            code=Exit.CONFIG,
        )
        return
    _check_privacy(directory, report)
    filesystem = filesystem_at(existing.resolve(), mounts())
    if filesystem is not None and is_remote(filesystem):
        report.problem(
            "state.dir",
            f"{directory} is on a network file system ({filesystem})",
            "Choose a directory on a disk of this machine.",
            code=Exit.CONFIG,
        )
    asked = bytes_for(settings.refresh.concurrency) - allocated(directory / f"{JOURNAL}-wal")
    if (short := shortage(existing, asked=max(0, asked))) is not None:
        report.problem("state.dir", short, "Free some space: provider replies are stored there.")
    else:
        report.passed("state.dir", f"{directory} takes writes and has space for replies")
    _check_journal(directory / JOURNAL, report)


def _check_privacy(directory: Path, report: Report) -> None:
    """Others must neither change what the daemon keeps, nor lay something there in its place."""
    try:
        if not directory.exists():
            trust(directory)
        elif (mode := open_mode(directory)) is not None:
            what, do = f"other users may enter {directory} (mode {mode:04o})", f"chmod 700 {directory}"
            if mode & (stat.S_IWGRP | stat.S_IWOTH):
                report.problem("state.dir", f"{what} and lay files there", do, code=Exit.CONFIG)
            else:
                report.warn("state.dir", f"{what}; the daemon's next start closes it", do)
    except Untrusted as why:
        report.problem("state.dir", why.what, why.do, code=Exit.CONFIG)


def _check_journal(journal: Path, report: Report) -> None:
    if not journal.exists():
        report.passed("journal", "it does not exist yet; `refreshd run` creates it")
    elif is_whole(journal):
        report.passed("journal", f"{journal} is whole")
    else:
        report.problem(
            "journal",
            f"{journal} is damaged or can't be read",
            "It may hold tokens that exist nowhere else: check owner and mode; if damaged, move it aside and keep it.",
        )


def check_clock(clock: Clock, settings: Settings, report: Report) -> None:
    """Compare the machine's clock with MongoDB's."""
    skew = clock.skew
    if skew is None:
        return
    seconds = abs(skew).total_seconds()
    if abs(skew) > settings.store.max_clock_skew:
        report.problem(
            "store.max_clock_skew",
            f"this machine's clock and MongoDB's differ by {seconds:.0f} s",
            "Synchronise both clocks with NTP.",
        )
    else:
        report.passed("clock", f"it differs from MongoDB's by {seconds:.1f} s")
