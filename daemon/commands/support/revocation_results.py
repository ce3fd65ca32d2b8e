"""The results of `refreshd revoke`: one for each token, and the exit code."""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from daemon.adapters.mongo.admin.revocations import Ending
from daemon.commands.support.access import known_providers
from daemon.commands.support.failure import Exit
from daemon.commands.support.output import Output, moment, span
from daemon.domain.provider import Definition
from daemon.domain.revocation_request import revocation_of
from daemon.domain.stored_grant import REVOKED, REVOKING
from daemon.domain.token import FailureKind
from daemon.runtime.config.settings import Settings

NO_REVOCATION, UNKNOWN, UNDONE = "no_revocation", "unknown", "undone"
_EXAMPLES = 5


def result_of(one: Ending | None) -> str | None:
    """Return the result of an order, or None if it is not there yet."""
    if one is None or one.state == REVOKED:  # removed in the meantime, or the tombstone
        return REVOKED if one is not None else UNKNOWN
    if one.state != REVOKING:
        return UNDONE
    refused = one.tries > 0 and one.failure is not None and one.failure.kind is FailureKind.MISCONFIGURED
    return NO_REVOCATION if refused else None


def not_yet(name: str, one: Ending | None, now: datetime, limit: timedelta) -> str:
    if one is not None and one.not_before is not None and one.not_before > now:
        return f"{name}: the first request is sent {moment(one.not_before, now=now)}"
    if one is not None and one.tries and one.failure is not None:
        return f"{name}: not revoked yet: {one.failure.message}. The daemon tries again"
    return (
        f"{name}: no outcome within {span(limit)}. Check that the daemon runs and that the provider is not paused:"
        " `refreshd status`"
    )


def report(output: Output, results: Mapping[str, str], settings: Settings, *, dry_run: bool = False) -> int:
    """Print each result, or for people the numbers of many."""
    definitions = known_providers(settings)
    counts: Counter[tuple[str, str]] = Counter()
    for name, result in sorted(results.items()):
        provider = name.partition(":")[0]
        counts[provider, result] += 1
        if output.as_json or counts[provider, result] <= _EXAMPLES:
            record = {"id": name, "result": result, **_manage(result, definitions.get(provider))}
            if dry_run:
                record["dry_run"] = True
            output.result(record, f"{name}: {_sentence(name, result, settings, dry_run=dry_run)}")
    for line in _more(counts):
        output.note(line)
    if not results:
        output.note("No token matches, so nothing is revoked.")
    return _exit_code(results)


def _more(counts: Mapping[tuple[str, str], int]) -> Iterator[str]:
    for (provider, result), count in sorted(counts.items()):
        if count > _EXAMPLES:
            yield f"{provider}: {counted_tokens(count)} in all: {result.replace('_', ' ')}"


def _exit_code(results: Mapping[str, str]) -> Exit:
    return Exit.FAILED if {NO_REVOCATION, UNKNOWN} & set(results.values()) else Exit.DONE


def _manage(result: str, definition: Definition | None) -> dict[str, object]:
    known = result == NO_REVOCATION and definition is not None
    return {"manage_url": definition.manage_url} if known and definition is not None else {}


def _sentence(name: str, result: str, settings: Settings, *, dry_run: bool) -> str:
    match result:
        case "unknown":
            return "no such token is stored. `refreshd list` shows the stored IDs"
        case "no_revocation":
            return f"the grant stays valid, because {_obstacle(name, settings)}"
        case "revoking":
            return "would be revoked" if dry_run else "is being revoked"
        case _:
            return result


def _obstacle(name: str, settings: Settings) -> str:
    """Return why refreshd can't revoke a token, and who can."""
    provider = name.partition(":")[0]
    definition = known_providers(settings).get(provider)
    page = definition.manage_url if definition is not None else None
    where = f". Its owner can end it at {page}" if page else ""
    if definition is not None and revocation_of(definition) is None:
        return f"the definition of {provider} has no revocation{where}"
    if provider not in settings.providers:
        return f"no provider {provider} is configured{where}"
    return f"its revocation is refused; `refreshd show {name}` has the reason{where}"


def counted_tokens(count: int) -> str:
    return f"{count:,} token{'s' * (count != 1)}"
