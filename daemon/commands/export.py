"""`refreshd export`: write stored tokens in an application's layout. Audited, because secrets leave."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from daemon.adapters.mongo.admin.stored_tokens import StoredTokens
from daemon.commands.support.access import known_providers, open_store, read_settings, unknown_provider
from daemon.commands.support.arguments import provider_names
from daemon.commands.support.command import Audited
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.options import Options, given
from daemon.commands.support.output import Output
from daemon.commands.support.place_options import (
    CollectionOption,
    KeyEnv,
    KeyFile,
    LayoutName,
    MapOption,
    Owner,
    PlaceOptions,
    TableOption,
    opened,
)
from daemon.domain.layout import FILE
from daemon.migrating.export import Exported, export
from daemon.migrating.write_back import WriteBack
from daemon.runtime.config.settings import Settings

_SHOWN = 20  # ids of refused tokens that are named

app = typer.Typer()


@app.command("export", cls=Audited, epilog="refreshd export token-files tokens.json --provider pipedrive")
def export_tokens(
    ctx: typer.Context,
    *,
    layout: LayoutName,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="A file or directory, or a URI with its database: mongodb://..., postgresql://...",
        ),
    ],
    provider: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            autocompletion=provider_names,
            help="Export only this provider's tokens. Repeatable.",
        ),
    ] = None,
    maps: MapOption = None,
    collection: CollectionOption = None,
    table: TableOption = None,
    key_env: KeyEnv = None,
    key_file: KeyFile = None,
    source_env: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The environment variable with the password of TARGET, or its whole URI."
        ),
    ] = None,
    owner: Owner = None,
) -> int:
    """Write the stored tokens, with their refresh tokens, in an application's layout.

    A row is replaced only if refreshd has read or written it last. All other fields stay as they are. Pause the tokens
    first: refreshd goes on renewing active ones.
    """
    options = given(ctx)
    settings = read_settings(options)
    providers = provider or []
    for name in providers:
        if name not in known_providers(settings):
            raise unknown_provider(name, settings)
    place = PlaceOptions(
        layout=layout,
        source=target,
        provider=_of_a_file(settings, layout, target, providers),
        maps=maps or [],
        collection=collection,
        table=table,
        key_env=key_env,
        key_file=key_file,
        source_env=source_env,
        owner=owner,
    )
    return asyncio.run(_export(settings, options, place, providers or None))


def _of_a_file(settings: Settings, layout: str, target: str, providers: list[str]) -> str | None:
    """Return the provider of all tokens of a single file, whose name can't name it."""
    known = settings.layouts.get(layout)
    if known is None or FILE not in known.provider or Path(target).is_dir():
        return None
    if len(providers) != 1:
        raise Failed(
            f"TARGET: a file of the layout {layout} is for one provider. Name it with --provider, or name a directory",
            Exit.USAGE,
        )
    return providers[0]


async def _export(
    settings: Settings, options: Options, place_options: PlaceOptions, providers: list[str] | None
) -> int:
    output = Output(as_json=options.json)
    async with (
        open_store(settings, reason=options.reason) as access,
        opened(settings, place_options) as place,
    ):
        tokens = StoredTokens(access.mongo, lambda: access.ring)
        write_back = WriteBack(layout=place.layout, place=place.store, cipher=place.cipher, digests=tokens)
        target = ", ".join(providers) if providers else "*"
        await access.audit.note("export", target, result=f"to {place.store.name} as {place.layout.name}")
        done = await export(write_back, tokens, providers, now=access.clock.now())
    _print(output, done, place.store.name)
    if not (done.written or done.unchanged or done.left or done.refused):
        raise Failed("no token is stored that could be exported. `refreshd list` shows the stored tokens")
    return Exit.FAILED if done.refused else Exit.DONE


def _print(output: Output, done: Exported, target: str) -> None:
    refused = [{"id": name, "why": why} for name, why in sorted(done.refused.items())]
    record = {"written": done.written, "unchanged": done.unchanged, "left": done.left, "refused": refused}
    text = f"{target}: {done.written} written, {done.unchanged} unchanged, {len(refused)} refused"
    if done.left:
        text += f"; {done.left} left alone, which the application has refreshed since their import"
    output.result(record, text)
    if not output.as_json:
        for name, why in sorted(done.refused.items())[:_SHOWN]:
            output.note(f"{name}: {why}")
        if len(refused) > _SHOWN:
            output.note(f"... and {len(refused) - _SHOWN} more. --json lists all")
    if done.active:
        output.note(
            f"refreshd: {len(done.active)} of these tokens are active, and refreshd goes on renewing them. Pause them before"
            " another program refreshes them: two programs would spend one refresh token"
        )
