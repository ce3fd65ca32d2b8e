"""What the store holds: tokens that can be claimed, once each, and nothing else. Everything raises what the look does."""

from collections.abc import Mapping

from daemon.adapters.mongo.admin.contents import duplicates, look_for_due, strangers, unclaimable
from daemon.adapters.mongo.admin.undated import Sample, undated
from daemon.commands.checks.report import Report
from daemon.commands.support.access import Access
from daemon.domain.provider import Provider


async def check_duplicates(access: Access, report: Report) -> None:
    found = await duplicates(access.mongo)
    for ids in found:
        report.problem(
            "store.collection",
            f"one refresh token is stored several times: {', '.join(ids)}",
            "Remove all but one: each renewal would invalidate the others.",
        )
    if not found:
        report.passed("store.collection", "no refresh token is stored twice")


async def check_claims(providers: Mapping[str, Provider], access: Access, report: Report) -> None:
    """The sweep's own query, and the documents that no claim could use."""
    counts = [await look_for_due(access.mongo, one, access.ring) for one in providers.values()]
    report.passed("store.collection", f"a sweep finds what is due ({sum(counts)} tokens looked at)")
    odd = await unclaimable(access.mongo, access.ring, providers)
    for document in odd:
        report.problem(
            "store.collection",
            f"{document.id} can't be renewed: {document.why}",
            "Correct what the application writes, and this document.",
        )
    if not odd:
        report.passed("store.collection", "every scheduled document can be claimed")


async def check_dates(providers: Mapping[str, Provider], access: Access, report: Report) -> None:
    """The active tokens that no sweep finds. Those that a daemon makes due are only a warning."""
    found = await undated(access.mongo, providers)
    if found.repaired.count:
        report.warn(
            "store.collection",
            f"{_counted(found.repaired)} no usable due_at, so no sweep finds them",
            "Let a daemon run: it makes them due within an hour. Correct what the application writes.",
        )
    if found.withheld.count:
        report.warn(
            "store.collection",
            f"{_counted(found.withheld)} no due_at, because a reply of the provider could not be parsed",
            "Look at the reply: `refreshd journal list`, docs/operate.md#refreshdrepliesunparsed.",
        )
    if found.lost.count:
        report.problem(
            "store.collection",
            f"{_counted(found.lost)} no usable due_at, and no daemon will give them one",
            "Correct what the application writes, and make each due: `refreshd refresh ID`.",
        )
    if not (found.repaired.count or found.withheld.count or found.lost.count):
        report.passed("store.collection", "every active token that can be renewed has a due_at")


def _counted(sample: Sample) -> str:
    some = ", ".join(sample.ids) + (", …" if sample.count > len(sample.ids) else "")
    noun, verb = ("token", "has") if sample.count == 1 else ("tokens", "have")
    return f"{sample.count:,} active {noun} ({some}) {verb}"


async def check_strangers(access: Access, report: Report) -> None:
    ids = await strangers(access.mongo)
    if ids:
        some = ", ".join(ids[:3]) + (" …" if len(ids) > 3 else "")
        report.warn(
            "store.collection",
            f"it holds documents that are not tokens (they lack a provider or an account): {some}",
            "Give refreshd a collection of its own: store.database, store.collection.",
        )
