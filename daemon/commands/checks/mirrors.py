"""The places of mirrors: each is read, and has to be one that this user may write to."""

from datetime import UTC, datetime

from daemon.adapters.foreign.atomic_file import why_not_writable
from daemon.adapters.foreign.cipher import AesGcm
from daemon.commands.checks.report import Report
from daemon.domain.foreign import SourceLost
from daemon.domain.layout import Row, RowInvalid
from daemon.domain.layout_reading import read
from daemon.domain.mirrored import Shown
from daemon.migrating.ports import ForeignStore
from daemon.runtime.config.mirrors import MirrorSettings
from daemon.runtime.config.problems import SettingsInvalid
from daemon.runtime.config.settings import Settings
from daemon.runtime.places import open_place


async def check_mirrors(settings: Settings, report: Report) -> None:
    """Try every mirror of this host. Nothing is written."""
    for mirror in settings.mirrors:
        await _check(mirror, report)


async def _check(mirror: MirrorSettings, report: Report) -> None:
    where = f"mirror {mirror.name}"
    if mirror.path is not None and (why := why_not_writable(mirror.path, mirror.owner)) is not None:
        what, _, do = why.partition(". ")
        report.problem(where, what, f"{do}.")
        return
    try:
        async with open_place(
            mirror.layout, path=mirror.path, uri=mirror.uri, keep=mirror.keep, owner=mirror.owner
        ) as place:
            trouble = await _trouble(mirror, place)
            name = place.name
    except SettingsInvalid as invalid:
        report.invalid(invalid.problems)
        return
    except SourceLost as lost:
        report.problem(where, str(lost), "The daemon tries again until it succeeds.")
        return
    if trouble is not None:
        report.problem(where, f"a row of {name} can't be read: {trouble}", "Correct the layout or the key.")
    else:
        report.passed(where, f"{name} can be read")
    _warn(mirror, where, report)


async def _trouble(mirror: MirrorSettings, place: ForeignStore) -> str | None:
    """Return why the first row can't be read; None if it can, or if there is none."""
    encryption, key = mirror.layout.encryption, mirror.key
    cipher = AesGcm(encryption, key) if encryption is not None and key is not None else None
    async for row in place.rows(new=True):
        if isinstance(row, Row):
            try:
                read(mirror.layout, row, cipher, now=datetime.now(UTC))
            except RowInvalid as why:
                return str(why)
        return None
    return None


def _warn(mirror: MirrorSettings, where: str, report: Report) -> None:
    if mirror.layout.encryption is None:
        report.warn(
            where,
            "access tokens are in plain text there",
            "Let the application read from refreshd when it can, then remove the mirror and its file.",
        )
    if mirror.show is Shown.LIVE:
        report.warn(
            where,
            "refresh tokens are there too, and a program that presents one may end the grant",
            'Write refresh_token = "none" if no program needs them.',
        )
