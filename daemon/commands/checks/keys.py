"""The key ring: each key seals and opens, and is the one that the store was sealed with."""

from datetime import datetime

from daemon.adapters.keyring import DecryptionError, KeyRing
from daemon.adapters.mongo.admin.contents import LIMIT, keys_in_use, shown
from daemon.adapters.mongo.keys import NOT_THE_KEY, CheckValue, Proof, prove
from daemon.commands.checks.report import Report
from daemon.commands.support.access import Access
from daemon.commands.support.failure import Exit
from daemon.domain.key_use import KeyUse, age_of, is_to_come
from daemon.runtime.config.settings import Settings

PUT_BACK = "Put the key that sealed this store back under its id, and give a new key an id of its own."


def check_ring(settings: Settings, report: Report) -> None:
    """Seal and open with each key of the ring."""
    for key_id, entry in settings.keys.ring.items():
        ring = KeyRing({key_id: entry.key}, active=key_id)
        try:
            sealed = ring.seal("check", token_id="check:check", field="access_token")
            opened = ring.open(sealed, token_id="check:check", field="access_token")
        except (DecryptionError, ValueError) as why:
            opened = str(why)
        if opened == "check":
            active = ", and is the active one" if key_id == settings.keys.active else ""
            report.passed(f"keys.ring.{key_id}", f"it seals and opens{active}")
        else:
            what = "it does not open what it has sealed"
            report.problem(f"keys.ring.{key_id}", what, "Replace this key.", code=Exit.CONFIG)


def check_ages(settings: Settings, report: Report, now: datetime) -> None:
    """Warn of keys and client secrets that are older than keys.max_age, and of dates that are yet to come."""
    ring = settings.keys.ring
    leaving = {f"keys.ring.{name}": name for name, entry in ring.items() if entry.use is KeyUse.OPEN}
    created = {f"keys.ring.{name}": entry.created for name, entry in ring.items()}
    created |= {
        f"providers.{name}.client_secret": provider.client_secret_created
        for name, provider in settings.providers.items()
    }
    for where, day in created.items():
        if day is None:
            continue
        if is_to_come(day, now):
            report.warn(
                where, f"its date, {day}, is yet to come", "Correct the date: its age is not watched."
            )
        elif (age := age_of(day, now)) > settings.keys.max_age:
            retire = f"Retire it: `refreshd keys retire {leaving.get(where)}`."
            do = retire if where in leaving else "Rotate it: docs/keys.md."
            report.warn(where, f"it is {age.days} days old", do)


async def check_stored_keys(access: Access, report: Report) -> None:
    """Open the check value and a few stored values with each key. Raises StoreLost."""
    for proof in await prove(access.mongo, access.ring, access.ring.ids, within=LIMIT, thorough=True):
        _judge(proof, report)


def _judge(proof: Proof, report: Report) -> None:
    where, looked_at = f"keys.ring.{proof.key_id}", len(proof.opened) + len(proof.failed)
    if proof.wrong:
        report.problem(where, f"key {proof.key_id!r} {NOT_THE_KEY}", PUT_BACK)
        return
    if proof.check_value is CheckValue.UNREADABLE:
        report.problem(
            where,
            "its check value in MongoDB can't be read",
            f"If this is the right key, run `refreshd keys check --renew {proof.key_id}`.",
        )
    if proof.failed and not proof.opened:
        report.problem(where, f"it opens its check value, and none of {looked_at} stored values", PUT_BACK)
    elif proof.failed:
        what = f"{len(proof.failed)} of {looked_at} stored values don't open with it, like {shown(proof.failed[0])}"
        report.warn(where, what, "Look at these documents: `refreshd show ID`.")
    elif proof.check_value is not CheckValue.UNREADABLE:
        report.passed(where, _evidence(proof))


def _evidence(proof: Proof) -> str:
    count = len(proof.opened)
    stored = f"{count} stored values that were tried" if count else ""
    if proof.check_value is CheckValue.OPENS:
        return f"it opens its check value{' and ' if stored else ''}{stored}"
    if not proof.complete:
        return "no value sealed with it was found in time; `refreshd run` looks again"
    return f"it opens {stored}" if stored else "nothing is sealed with it yet"


async def check_missing_keys(access: Access, report: Report) -> None:
    """Look for stored values of keys that the ring lacks. Raises StoreLost, Refusal, TooLong."""
    in_use = await keys_in_use(access.mongo)
    for key_id, count in in_use.items():
        if key_id not in access.ring.ids:
            report.problem(
                "keys.ring",
                f"{count} refresh tokens are sealed with key {key_id!r}, which is not on the ring",
                "Add that key: without it they can't be opened. If it is lost, let their owners consent again.",
                code=Exit.CONFIG,
            )
    if in_use.keys() <= set(access.ring.ids):
        report.passed("keys.ring", f"it has every key in use ({sum(in_use.values())} refresh tokens)")
