"""Writes stored tokens in an application's layout: back to where they came from, or to a new place."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from daemon.domain.origin import StoredToken, Unreadable
from daemon.migrating.write_back import Digests, WriteBack

UNSETTLED = "its renewal is in flight, or its result is not known yet; run the command again in a minute"
REVOKING = "it is being revoked"


class ExportedTokens(Digests, Protocol):
    """The stored tokens. Every method but those of Digests raises StoreLost."""

    def batches(
        self, providers: Collection[str] | None = None
    ) -> AsyncIterator[Sequence[StoredToken | Unreadable]]:
        """Yield all tokens of `providers` (None: all) that are not gone, some hundred at a time."""

    async def note_written(self, digests: Mapping[str, tuple[str, str]]) -> None:
        """Replace the digest of each imported token's row: by id, the former one and the new one."""


@dataclass(slots=True, kw_only=True)
class Exported:
    """What an export did. `left`: tokens that the application itself has refreshed since their import. `active`: tokens
    that refreshd goes on renewing. `refused`: by id, with the reason.
    """

    written: int = 0
    unchanged: int = 0
    left: int = 0
    active: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


async def export(
    write_back: WriteBack, tokens: ExportedTokens, providers: Collection[str] | None, *, now: datetime
) -> Exported:
    """Write every token of `providers`. Raises StoreLost, SourceLost; what was written before stays."""
    done = Exported()
    async for batch in tokens.batches(providers):
        ready = []
        for token in batch:
            if isinstance(token, Unreadable):
                done.refused[token.id] = token.why
            elif token.revoking:
                done.refused[token.id] = REVOKING
            elif token.unsettled:
                done.refused[token.id] = UNSETTLED
            else:
                ready.append(token)
        origins = write_back.origins(ready)
        last = {name: (digest,) for name, digest in origins.items()}
        outcome = await write_back.bring(ready, last, now=now)
        await tokens.note_written(
            {
                name: (origins[name], digest)
                for name, digest in {**outcome.unchanged, **outcome.written}.items()
                if name in origins
            }
        )
        done.written += len(outcome.written)
        done.unchanged += len(outcome.unchanged)
        done.left += len(outcome.left)
        done.refused |= outcome.refused
        done.active += [token.id for token in ready if token.usable and token.id not in outcome.refused]
    return done
