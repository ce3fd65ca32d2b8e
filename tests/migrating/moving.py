"""An application's store in memory, and one run of an import from it into a real MongoDB."""

import json
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from daemon.domain.due import Moment, Timing
from daemon.domain.layout import Layout, Row, RowInvalid, SourceKind, TimeForm
from daemon.domain.layout_reading import key_of
from daemon.domain.moving import activation_due
from daemon.domain.provider import Definition, Grant, Provider
from daemon.migrating.activation import SliceActivation
from daemon.migrating.import_tokens import Import, Report
from daemon.migrating.row_reader import CountingCipher, RowReader

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SOURCE = "memory://rows"
LAYOUT = Layout(
    name="plain",
    title="Plain rows",
    source=SourceKind.JSON,
    provider=("service",),
    account=("account",),
    access_token=("access",),
    refresh_token=("refresh",),
    expires_at=("expires",),
    issued_at=("issued",),
    consented_at=("consented",),
    subject=("user",),
    time=TimeForm.SECONDS,
    meta={"company": "company"},
)
DEFINITION = Definition(name="xero", title="Xero", token_url="https://xero.test/token")
PROVIDERS = {
    "xero": Provider(definition=DEFINITION, client_id="me"),
    "kept": Provider(
        definition=Definition(
            name="kept",
            title="Kept",
            token_url="https://kept.test/token",
            refresh_lifetime=timedelta(days=365),
        ),
        client_id="me",
    ),
    "watched": Provider(
        definition=Definition(name="watched", title="W", token_url="https://w.test/token", grant=Grant.NONE),
        client_id="me",
    ),
}


def provider(name):
    if name not in PROVIDERS:
        raise RowInvalid(f"provider {name!r} is not configured; add [providers.{name}]")
    return PROVIDERS[name]


def row(account="1", **cells):
    made = {
        "service": "xero",
        "account": account,
        "access": f"access-{account}",
        "refresh": f"refresh-{account}",
        "expires": int((NOW + HOUR).timestamp()),
        "colour": "green",
    }
    made |= cells
    return {name: value for name, value in made.items() if value is not None}


class MemorySource:
    """A ForeignStore. `rows` may hold BadRow objects; `meddle` is called before each reading."""

    name = SOURCE

    def __init__(self, *rows):
        self.held = list(rows)
        self.meddle = lambda _rows: None

    async def rows(self):
        for cells in list(self.held):
            yield Row(cells=deepcopy(cells)) if isinstance(cells, dict) else cells

    async def again(self, rows):
        self.meddle(self.held)
        keys = {key_of(LAYOUT, row) for row in rows}
        now = [Row(cells=deepcopy(cells)) for cells in self.held if isinstance(cells, dict)]
        return {key: row for row in now if (key := key_of(LAYOUT, row)) in keys}

    async def replace(self, changes):
        raise NotImplementedError

    def encode(self, cells):
        return json.dumps(cells)

    def decode(self, text):
        return json.loads(text)


class MemoryCopy:
    """A RowCopy."""

    def __init__(self):
        self.rows = []

    async def add(self, rows):
        self.rows += rows


@dataclass
class Mover:
    """Gives imports against one store."""

    tokens: object
    slices: object
    clock: object
    copy: MemoryCopy = field(default_factory=MemoryCopy)

    async def run(
        self, source, *, activate=0, dry=False, only=(), cipher=None, layout=LAYOUT, consented_at=None
    ):
        counting = None if cipher is None else CountingCipher(cipher)
        run = Import(
            source=source,
            reader=RowReader(
                layout=layout,
                source=source,
                cipher=counting,
                providers=provider,
                name=source.name,
                consented_at=consented_at,
            ),
            cipher=counting,
            tokens=self.tokens,
            copy=None if dry else self.copy,
            only=only,
            now=self.clock.now,
            progress=lambda _: None,
            report=Report(layout=layout.name, source=source.name, dry_run=dry),
        )
        await run.run()
        if activate:
            await SliceActivation(run=run, slices=self.slices, percent=activate, due=self.due).activate()
        assert_adds_up(run.report)
        return run.report

    def due(self, token, end_is_known):
        return activation_due(
            provider(token.provider),
            token,
            end_is_known=end_is_known,
            moment=Moment(self.clock.now(), 0.5, Timing()),
        )


def assert_adds_up(report):
    counted = report.imported + report.updated + report.already_there + len(report.refused)
    assert report.found == counted


def counts(report):
    return (report.imported, report.updated, report.already_there, len(report.refused))


def whys(report):
    return {one.row: one.why for one in report.refused}
