"""`refreshd compare`: which tokens are newer here, and which in an application's own store. No secret is printed."""

import asyncio

import typer

from daemon.adapters.mongo.admin.stored_tokens import StoredTokens
from daemon.commands.support.access import open_store, read_settings
from daemon.commands.support.column import Column
from daemon.commands.support.command import Command
from daemon.commands.support.failure import Exit
from daemon.commands.support.options import Options, given
from daemon.commands.support.output import Output
from daemon.commands.support.place_options import (
    CollectionOption,
    KeyEnv,
    KeyFile,
    LayoutName,
    MapOption,
    PlaceOptions,
    ProviderOption,
    Source,
    SourceEnv,
    TableOption,
    opened,
)
from daemon.migrating.compare import Comparison, Difference, compare
from daemon.runtime.config.settings import Settings

_SHOWN = 10  # ids of each difference
_MEANINGS = {
    Difference.EQUAL: "the same token on both sides",
    Difference.NEWER_HERE: "refreshd has renewed it since",
    Difference.NEWER_THERE: "the application has renewed it since",
    Difference.DIVERGED: "both have renewed it, or nothing shows which is newer",
    Difference.ONLY_HERE: "stored here only",
    Difference.ONLY_THERE: "stored there only",
}
_COLUMNS = (Column("Difference"), Column("Tokens"), Column("Meaning"))

app = typer.Typer()


@app.command("compare", cls=Command, epilog="refreshd compare token-files tokens.json --provider pipedrive")
def compare_tokens(
    ctx: typer.Context,
    *,
    layout: LayoutName,
    source: Source,
    provider: ProviderOption = None,
    maps: MapOption = None,
    collection: CollectionOption = None,
    table: TableOption = None,
    key_env: KeyEnv = None,
    key_file: KeyFile = None,
    source_env: SourceEnv = None,
) -> int:
    """Show which tokens are newer here and which in an application's own store, without their secrets.

    Nothing is changed on either side. The exit code is 1 if tokens have diverged or could not be compared.
    """
    options = given(ctx)
    settings = read_settings(options)
    place = PlaceOptions(
        layout=layout,
        source=source,
        provider=provider,
        maps=maps or [],
        collection=collection,
        table=table,
        key_env=key_env,
        key_file=key_file,
        source_env=source_env,
    )
    return asyncio.run(_compare(settings, options, place))


async def _compare(settings: Settings, options: Options, place_options: PlaceOptions) -> int:
    output = Output(as_json=options.json)
    async with open_store(settings) as access, opened(settings, place_options) as place:
        tokens = StoredTokens(access.mongo, lambda: access.ring)
        found = await compare(place.layout, place.store, place.cipher, tokens, now=access.clock.now())
    _print(output, found)
    return Exit.FAILED if found.ids[Difference.DIVERGED] or found.refused else Exit.DONE


def _print(output: Output, found: Comparison) -> None:
    if output.as_json:
        counts = {one.value: len(ids) for one, ids in found.ids.items()}
        named = {one.value: sorted(ids) for one, ids in found.ids.items() if one is not Difference.EQUAL}
        refused = [{"row": row, "why": why} for row, why in found.refused.items()]
        output.record({**counts, "ids": named, "refused": refused})
        return
    rows = [[one.value, str(len(ids)), _MEANINGS[one]] for one, ids in found.ids.items()]
    output.table(_COLUMNS, rows)
    for one, ids in found.ids.items():
        if ids and one is not Difference.EQUAL:
            more = f", and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
            output.note(f"{one.value}: {', '.join(sorted(ids)[:_SHOWN])}{more}")
    for row, why in list(found.refused.items())[:_SHOWN]:
        output.note(f"{row}: {why}")
