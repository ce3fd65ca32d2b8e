"""`refreshd keys`: a new key for the ring, the keys by which an application opens access tokens or seals refresh tokens
and can do nothing else, the rotation of keys, and whether the ring is the one of this store.
"""

import asyncio
import os
from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from daemon.adapters.door_keys import reader_line, writer_lines
from daemon.adapters.keyring import KEY_BYTES, KeyRing
from daemon.adapters.mongo.admin.contents import LIMIT
from daemon.adapters.mongo.instances import without_writer_key
from daemon.adapters.mongo.keys import CheckValue, Proof, prove, renew_check_value
from daemon.commands.support import key_rotation, key_status
from daemon.commands.support.access import Access, open_store, read_settings
from daemon.commands.support.arguments import Yes, confirmation
from daemon.commands.support.column import Column
from daemon.commands.support.command import Audited, Command, Group
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.options import Options, given, say_unused
from daemon.commands.support.output import Output
from daemon.commands.support.wrapping import wrapped
from daemon.runtime.config.settings import Settings

_COLUMNS = (
    Column("Key"),
    Column("Active"),
    Column("Check value"),
    Column("Stored values that open"),
    Column("Verdict"),
)


app = typer.Typer(
    name="keys",
    cls=Group,
    help="Generate, wrap and rotate keys, derive reader and writer keys, and check the key ring against the store.",
    epilog="refreshd keys check",
    no_args_is_help=True,
)


@app.command(cls=Command, epilog="(umask 077; refreshd keys generate > /etc/refreshd/key)")
def generate(ctx: typer.Context) -> int:
    """Print a new key for [keys.ring]: 32 random bytes in base64.

    Keep a copy in a safe place. If you lose the key, you lose every token that it has sealed.
    """
    say_unused(ctx, "config", "env_file")
    options = given(ctx)
    key = b64encode(os.urandom(KEY_BYTES)).decode()
    Output(as_json=options.json).exact({"key": key}, key)
    return Exit.DONE


_KeyId = Annotated[
    str | None,
    typer.Argument(metavar="KEY_ID", help="A key of the ring. Default: the active one.", show_default=False),
]
_All = Annotated[bool, typer.Option("--all", help="Print one line for each key of the ring.")]


@app.command(cls=Audited, epilog="(umask 077; refreshd keys reader --all > readers.jsonl)")
def reader(ctx: typer.Context, *, key_id: _KeyId = None, every: _All = False) -> int:
    """Print the reader key of a key of the ring, as JSON.

    A reader key opens access tokens, but no refresh token. Keep it secret, too.
    """
    options = given(ctx)
    settings = read_settings(options)
    key_ids = _key_ids(settings, key_id, every=every)
    asyncio.run(_note_handed_out(settings, options, "reader_key", key_ids))
    ring = _ring(settings)
    for one in key_ids:
        Output(as_json=True).exact(reader_line(ring, one), "")
    return Exit.DONE


@app.command(cls=Audited, epilog="(umask 077; refreshd keys writer > writer.jsonl)")
def writer(ctx: typer.Context, *, key_id: _KeyId = None, every: _All = False) -> int:
    """Print the writer key of a key of the ring, as one line of JSON for each field.

    A writer key seals refresh tokens, but opens none, not even those that it has sealed. Keep it secret, too.
    """
    options = given(ctx)
    settings = read_settings(options)
    key_ids = _key_ids(settings, key_id, every=every)
    asyncio.run(_note_handed_out(settings, options, "writer_key", key_ids))
    ring = _ring(settings)
    for one in key_ids:
        for line in writer_lines(ring, one):
            Output(as_json=True).exact(line, "")
    return Exit.DONE


def _ring(settings: Settings) -> KeyRing:
    return settings.keys.key_ring


def _key_ids(settings: Settings, key_id: str | None, *, every: bool) -> list[str]:
    keys = settings.keys
    if every and key_id is not None:
        raise Failed("--all and KEY_ID exclude each other. Give one of them", Exit.USAGE)
    if every:
        return sorted(keys.ring, key=lambda one: (one != keys.active, one))
    key_id = key_id or keys.active
    if key_id not in keys.ring:
        raise Failed(f"keys.ring: it has no key {key_id!r}. Use one of: {', '.join(keys.ring)}", Exit.USAGE)
    return [key_id]


async def _note_handed_out(settings: Settings, options: Options, action: str, key_ids: Sequence[str]) -> None:
    """Audit that keys leave. A writer key only does if every running daemon opens what it seals. Raises Failed."""
    async with open_store(settings, reason=options.reason) as access:
        for key_id in key_ids:
            if action == "writer_key" and (hosts := await without_writer_key(access.mongo, key_id)):
                raise Failed(
                    f"a refreshd on {', '.join(hosts)} can't open what this writer key seals: its version is older, its"
                    f" ring lacks {key_id!r}, or its keys.writers does. Upgrade it and give it the key, wait five minutes, and run the command"
                    " again"
                )
            await access.audit.note(action, key_id)


@app.command(cls=Command, epilog="refreshd keys status")
def status(
    ctx: typer.Context,
    *,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Count every document, however many there are, instead of a sample."),
    ] = False,
) -> int:
    """Show how many stored values each key has sealed, which journals need it, and how old it is.

    A store of more than 200,000 documents is sampled. The exit code is 0, whatever the ages are.
    """
    options = given(ctx)
    return asyncio.run(_status(read_settings(options), Output(as_json=options.json), exact=exact))


async def _status(settings: Settings, output: Output, *, exact: bool) -> int:
    async with open_store(settings) as access:
        statuses, counted, found = await key_status.key_statuses(access, settings, exact=exact)
        now = access.clock.now()
    ages = key_status.secret_ages(settings, now)
    if output.as_json:
        output.record(key_status.record(statuses, counted, found, ages))
    else:
        to_come = key_status.secrets_to_come(settings, now)
        key_status.show(
            output, statuses, counted, ages, now=now, max_age=settings.keys.max_age, to_come=to_come
        )
    return Exit.DONE


@app.command(cls=Audited, epilog="refreshd keys reseal --dry-run")
def reseal(
    ctx: typer.Context,
    *,
    rate: Annotated[
        float | None,
        typer.Option(
            parser=key_rotation.read_rate,
            metavar="RATE",
            help='The highest number of documents in a time, like "200/s" or "600/m". Default: 200/s.',
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count the documents, and change nothing.")
    ] = False,
    readers_have_it: Annotated[
        bool,
        typer.Option(
            "--readers-have-it",
            help="Seal access tokens again, too. Every application must have the reader key of the active key.",
        ),
    ] = False,
) -> int:
    """Seal every stored value again that another key than the active one has sealed. Daemons may keep running.

    It can be stopped at any time, and the next run continues. The exit code is 1 if a value can't be opened.
    """
    options = given(ctx)
    settings, output = read_settings(options), Output(as_json=options.json)

    async def work() -> int:
        async with open_store(settings, reason=options.reason) as access:
            return await key_rotation.reseal(
                access, output, access_tokens=readers_have_it, rate=rate or 200, dry_run=dry_run
            )

    return asyncio.run(work())


@app.command(cls=Audited, epilog="refreshd keys retire 2025-11")
def retire(
    ctx: typer.Context,
    *,
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help='A key of the ring, with use = "open".')],
) -> int:
    """Find out whether anything still needs a key. If nothing does, you may delete it from the configuration.

    The exit code is 1 if something still needs it. Nothing is changed.
    """
    options = given(ctx)
    settings, output = read_settings(options), Output(as_json=options.json)
    if key_id not in settings.keys.ring:
        ring_ids = ", ".join(settings.keys.ring)
        raise Failed(f"keys.ring: it has no key {key_id!r}. Use one of: {ring_ids}", Exit.USAGE)

    async def work() -> int:
        async with open_store(settings, reason=options.reason) as access:
            return await key_rotation.retire(access, settings, output, key_id)

    return asyncio.run(work())


@app.command("check", cls=Audited, epilog="refreshd keys check")
def check_keys(
    ctx: typer.Context,
    *,
    renew: Annotated[
        str | None,
        typer.Option(
            metavar="KEY_ID",
            help="Replace the check value of this key instead. This is recorded in the audit.",
        ),
    ] = None,
    yes: Yes = False,
) -> int:
    """Show how many of the stored values each key of the ring opens.

    The exit code is 1 if a key is not the one that this store was sealed with.
    """
    options = given(ctx)
    if renew is None:
        say_unused(ctx, "reason", effect="has no effect without --renew")
    confirm = confirmation(yes=yes) if renew else None
    settings = read_settings(options)
    if renew is not None and renew not in settings.keys.ring:
        ring_ids = ", ".join(settings.keys.ring)
        raise Failed(f"keys.ring: it has no key {renew!r}. Use one of: {ring_ids}", Exit.USAGE)
    if renew is None:
        return asyncio.run(_show(settings, Output(as_json=options.json)))
    return asyncio.run(_renew(settings, options, renew, confirm))


async def _show(settings: Settings, output: Output) -> int:
    async with open_store(settings) as access:
        proofs = await _proofs(access)
    if output.as_json:
        output.record({"keys": [_record(proof, access.ring.active) for proof in proofs]})
    else:
        output.table(_COLUMNS, [_row(proof, access.ring.active) for proof in proofs])
    return Exit.FAILED if any(proof.wrong for proof in proofs) else Exit.DONE


async def _renew(
    settings: Settings, options: Options, key_id: str, confirm: Callable[[str], bool] | None
) -> int:
    async with open_store(settings, reason=options.reason) as access:
        (proof,) = [one for one in await _proofs(access) if one.key_id == key_id]
        question = f"{_opened(proof)} stored values open with key {key_id!r}. Replace its check value?"
        if confirm is not None and not confirm(question):
            raise Failed("the confirmation was declined, so nothing was changed")
        await renew_check_value(access.mongo, access.ring, key_id, access.audit)
    record = {"key_id": key_id, "opened": len(proof.opened), "looked_at": _looked_at(proof)}
    Output(as_json=options.json).result(
        record, f"{key_id}: check value replaced; {_opened(proof)} stored values open with this key"
    )
    return Exit.DONE


async def _proofs(access: Access) -> list[Proof]:
    return await prove(access.mongo, access.ring, access.ring.ids, within=LIMIT, thorough=True)


def _record(proof: Proof, active: str) -> dict[str, object]:
    return {
        "key_id": proof.key_id,
        "active": proof.key_id == active,
        "check_value": proof.check_value.value,
        "opened": len(proof.opened),
        "looked_at": _looked_at(proof),
        "wrong": proof.wrong,
    }


def _row(proof: Proof, active: str) -> list[str]:
    verdict = "not the key of this store" if proof.wrong else "right"
    if not proof.wrong and not proof.opened and proof.check_value is not CheckValue.OPENS:
        verdict = "seals nothing yet"
    return [
        proof.key_id,
        "yes" if proof.key_id == active else "",
        proof.check_value.value,
        _opened(proof),
        verdict,
    ]


def _opened(proof: Proof) -> str:
    return f"{len(proof.opened)} of {_looked_at(proof)}"


def _looked_at(proof: Proof) -> int:
    return len(proof.opened) + len(proof.failed)


@app.command(
    cls=Command, epilog="refreshd keys wrap main --kms aws:arn:aws:kms:eu-central-1:123456789012:key/ID"
)
def wrap(
    ctx: typer.Context,
    *,
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="A key of the ring.", show_default=False)],
    kms: Annotated[
        str, typer.Option(metavar="aws:ARN", help="The key of AWS KMS, by its ARN.", show_default=False)
    ],
    new: Annotated[
        bool, typer.Option("--new", help="Make a new key for this id. It is shown nowhere.")
    ] = False,
) -> int:
    """Print the line for [keys.ring] that holds a key wrapped by AWS KMS.

    The key opens after a request to KMS, and for this key id and this keys.installation only. If you lose the KMS
    key, you lose the wrapped key.
    """
    options = given(ctx)
    key = wrapped(options, key_id, kms, new=new)
    line = f'{key_id} = {{ kms = "aws:{key.kms_key}", wrapped = "{key.wrapped}" }}'
    record = {
        "key_id": key_id,
        "kms": f"aws:{key.kms_key}",
        "wrapped": key.wrapped,
        "installation": key.installation,
    }
    Output(as_json=options.json).exact(record, line)
    return Exit.DONE
