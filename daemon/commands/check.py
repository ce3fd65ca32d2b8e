"""`refreshd check`: everything that the daemon will rely on, tried now. It tells every problem, not the first."""

import asyncio
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from daemon.adapters.keyring import KeyRing, Unopenable
from daemon.adapters.mongo import Mongo
from daemon.adapters.mongo_inspection import (
    due_index_is_right,
    duplicates,
    keys_in_use,
    missing_rights,
    write_with_majority,
)
from daemon.adapters.room import allocated, room_for, shortage
from daemon.commands.access import open_store, read_settings
from daemon.commands.failure import Exit
from daemon.commands.options import Options
from daemon.commands.output import Output
from daemon.domain.claim import StoreLost
from daemon.domain.provider import Provider
from daemon.runtime.clock import Clock
from daemon.runtime.filesystem import filesystem_at, is_remote, mounts
from daemon.runtime.problem import Problem, SettingsInvalid
from daemon.runtime.settings import Settings


@dataclass(slots=True, kw_only=True)
class Report:
    """What was found: problems keep the daemon from its work or its promise, warnings are worth knowing."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    code: Exit = Exit.DONE

    def problem(self, where: str, what: str, do: str, *, code: Exit = Exit.FAILED) -> None:
        """The gravest code counts: a configuration to mend, then a store that is away."""
        self.problems.append(Problem(where=where, what=what, do=do))
        self.code = max(self.code, code)

    def warn(self, where: str, what: str, do: str) -> None:
        self.warnings.append(Problem(where=where, what=what, do=do))


def check(options: Options) -> int:
    """Try settings, keys, providers, journal and store."""
    report = Report()
    try:
        settings = read_settings(options)
    except SettingsInvalid as invalid:
        report.problems.extend(invalid.problems)
        report.code = Exit.CONFIG
    else:
        _check_keys(settings, report)
        _check_providers(settings, report)
        _check_state(settings, report)
        asyncio.run(_check_store(settings, report))
    _tell(Output(as_json=options.json), report)
    return report.code


def _check_keys(settings: Settings, report: Report) -> None:
    """Seal and open with each key of the ring."""
    for key_id, key in settings.keys.ring.items():
        ring = KeyRing({key_id: key}, active=key_id)
        try:
            sealed = ring.seal("check", token_id="check:check", field="access_token")
            opened = ring.open(sealed, token_id="check:check", field="access_token")
        except (Unopenable, ValueError) as why:
            opened = str(why)
        if opened != "check":
            report.problem(
                f"keys.ring.{key_id}",
                "it does not open what it has sealed",
                "Replace it.",
                code=Exit.CONFIG,
            )


def _check_providers(settings: Settings, report: Report) -> None:
    if not settings.providers and not settings.demo.enabled:
        report.warn(
            "providers", "none is configured, so nothing is refreshed", "`refreshd providers` lists them."
        )
    for provider in settings.providers.values():
        if _is_example(provider):
            report.problem(
                f"providers.{provider.name}.client_id",
                "it is the text of an example",
                "Write the one that the provider gave to your app.",
                code=Exit.CONFIG,
            )


def _is_example(provider: Provider) -> bool:
    return provider.client_id in ("...", "YOUR-CLIENT-ID")


def _check_state(settings: Settings, report: Report) -> None:
    """The journal needs a directory on a disk of this machine that takes writes, and room; one that is there must be
    whole.
    """
    directory = settings.state_dir
    existing = next((path for path in (directory, *directory.parents) if path.exists()), directory)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        report.problem(
            "state.dir",
            f"{directory} is not a directory that this user may write to",
            "Correct it, or the directory's owner and mode.",
            code=Exit.CONFIG,
        )
        return
    filesystem = filesystem_at(existing.resolve(), mounts())
    if filesystem is not None and is_remote(filesystem):
        report.problem(
            "state.dir",
            f"{directory} is on a network file system ({filesystem})",
            "Choose a directory on a disk of this machine.",
            code=Exit.CONFIG,
        )
    asked = room_for(settings.refresh.concurrency) - allocated(directory / "journal.db-wal")
    if (short := shortage(existing, asked=max(0, asked))) is not None:
        report.problem("state.dir", short, "Make room: replies are kept there.")
    journal = directory / "journal.db"
    if journal.exists() and not _is_whole(journal):
        report.problem(
            "journal",
            f"{journal} is damaged or can't be read",
            "It may hold tokens that exist nowhere else: check owner and mode; if damaged, move it aside and keep it.",
        )


def _is_whole(journal: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as database:
            found = database.execute("pragma quick_check").fetchone()
    except sqlite3.Error:
        return False
    return bool(found == ("ok",))


async def _check_store(settings: Settings, report: Report) -> None:
    try:
        async with open_store(settings) as access:
            _check_clock(access.clock, settings, report)
            await _check_promises(access.mongo, report)
            await _check_tokens(access.mongo, settings, report)
    except StoreLost as lost:
        report.problem("store.uri", str(lost), "Start MongoDB, or correct the URI.", code=Exit.UNAVAILABLE)
    except SettingsInvalid as invalid:
        report.problems.extend(invalid.problems)
        report.code = Exit.CONFIG


def _check_clock(clock: Clock, settings: Settings, report: Report) -> None:
    skew = clock.skew
    if skew is not None and abs(skew) > settings.store.max_clock_skew:
        report.problem(
            "store.max_clock_skew",
            f"this machine's clock and MongoDB's differ by {abs(skew).total_seconds():.0f} s",
            "Set both by NTP.",
        )


async def _check_promises(mongo: Mongo, report: Report) -> None:
    """What the store must be able to do."""
    for right in await missing_rights(mongo):
        report.problem(
            "store.uri", f"this login may not {right}", "Grant it; the role readWrite has all that is needed."
        )
    if not await due_index_is_right(mongo):
        report.problem(
            "store.collection",
            "its index 'due' is not the one that the sweep needs",
            "Drop that index: the daemon makes it anew.",
        )
    if not mongo.retryable_writes:
        report.warn(
            "store.uri",
            "this MongoDB stands alone: no failover and no retryable writes",
            "Make it a replica set, even of one member.",
        )
    await write_with_majority(mongo)


async def _check_tokens(mongo: Mongo, settings: Settings, report: Report) -> None:
    """What the store holds."""
    for key_id, count in (await keys_in_use(mongo)).items():
        if key_id not in settings.keys.ring:
            report.problem(
                "keys.ring",
                f"{count} refresh tokens are sealed with key {key_id!r}, which is not there",
                "Add that key: without it they can't be opened.",
                code=Exit.CONFIG,
            )
    for ids in await duplicates(mongo):
        report.problem(
            "store.collection",
            f"one refresh token is stored several times: {', '.join(ids)}",
            "Remove all but one: each would spend the others'.",
        )


def _tell(output: Output, report: Report) -> None:
    if output.as_json:
        output.record(
            {
                "ok": not report.problems,
                "problems": [_record(problem) for problem in report.problems],
                "warnings": [_record(warning) for warning in report.warnings],
            }
        )
        return
    for problem in report.problems:
        output.result({}, f"problem: {problem}")
    for warning in report.warnings:
        output.result({}, f"warning: {warning}")
    if not report.problems:
        output.result({}, "Everything that was checked is in order.")


def _record(problem: Problem) -> dict[str, str]:
    return {"where": problem.where, "what": problem.what, "do": problem.do}
