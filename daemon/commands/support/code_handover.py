"""An authorization code on its way to a daemon: stored as a request, and followed until its end."""

import asyncio
from datetime import timedelta

from daemon.adapters.mongo.consent_documents import EXPIRED
from daemon.adapters.mongo.consent_requests import ConsentsRefused
from daemon.adapters.mongo.consents import MongoConsents
from daemon.commands.support.failure import Exit, Failed
from daemon.domain.consent_request import (
    ConsentFailure,
    ConsentFailureKind,
    ConsentRequest,
    ConsentResult,
    ConsentState,
)

LOOK_EVERY = timedelta(milliseconds=200)
TAKEN_WITHIN = timedelta(seconds=10)
ENDED_WITHIN = timedelta(minutes=5)  # with the provider's time limit, and a loss of the store in between


async def hand_over(
    consents: MongoConsents,
    request: ConsentRequest,
    *,
    state_hash: str,
    taken_within: timedelta = TAKEN_WITHIN,
    ended_within: timedelta = ENDED_WITHIN,
) -> ConsentResult:
    """Store `request`, and wait until a daemon has exchanged its code. Raises Failed, StoreLost."""
    try:
        await consents.insert(request, state_hash=state_hash)
    except ConsentsRefused as why:
        raise Failed(
            f"the consent can't be stored: {why}. Give this MongoDB user find, insert and update on the collection of"
            " consents"
        ) from None
    try:
        async with asyncio.timeout(taken_within.total_seconds()):
            taken = await _left(consents, request, {ConsentState.WAITING})
    except TimeoutError:
        taken = None
    if taken is None and await consents.refuse(request.id, EXPIRED):
        raise Failed(
            f"no daemon has taken the consent within {taken_within.total_seconds():.0f} seconds. Check that the daemon runs"
            f" and that {request.provider} is configured and not paused: `refreshd status`. Then start again",
            Exit.UNAVAILABLE,
        )
    try:
        async with asyncio.timeout(ended_within.total_seconds()):
            return await _left(consents, request, {ConsentState.WAITING, ConsentState.ASKED})
    except TimeoutError:
        raise Failed(
            f"the daemon has not finished the consent yet. `refreshd show {request.token}` shows whether its token is"
            " stored. Otherwise start again",
            Exit.UNAVAILABLE,
        ) from None


async def _left(consents: MongoConsents, request: ConsentRequest, states: set[ConsentState]) -> ConsentResult:
    """Wait until the request has left these states. Raises Failed if it has ended without a grant."""
    while True:
        progress = await consents.progress(request.id)
        if progress is None:
            raise Failed("the consent is stored no longer. Start again")
        if progress.state.is_final and progress.state is not ConsentState.DONE:
            raise _failed(request, progress.failure)
        if progress.state not in states:
            return progress.result or ConsentResult(scope=None, missing_scopes=(), expires_at=None)
        await asyncio.sleep(LOOK_EVERY.total_seconds())


def _failed(request: ConsentRequest, failure: ConsentFailure | None) -> Failed:
    if failure is None:
        return Failed(f"{request.token} was not connected. Start again")
    away = failure.kind is ConsentFailureKind.UNAVAILABLE
    code = Exit.UNAVAILABLE if away else Exit.FAILED
    return Failed(f"{request.token} was not connected ({failure.named}): {failure.message}", code)
