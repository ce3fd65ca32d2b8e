"""An authorization code or a device code on its way to a daemon: stored as a request, and followed until its end."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

from daemon.adapters.mongo.connecting.consent_documents import EXPIRED
from daemon.adapters.mongo.connecting.consent_requests import ConsentsRefused
from daemon.adapters.mongo.connecting.consents import MongoConsents
from daemon.commands.support.failure import Exit, Failed
from daemon.domain.consent_request import (
    ConsentFailure,
    ConsentFailureKind,
    ConsentProgress,
    ConsentRequest,
    ConsentResult,
    ConsentState,
)

WITHDRAWN = ConsentFailure(
    kind=ConsentFailureKind.EXPIRED, message="the command that waited for it has ended"
)
_WITHDRAWALS = 25  # with LOOK_EVERY between them: as long as a slow poll
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
    await _stored(consents, request, state_hash)
    await _taken(consents, request, taken_within)
    try:
        async with asyncio.timeout(ended_within.total_seconds()):
            return await _ended(consents, request)
    except TimeoutError:
        raise Failed(
            f"the daemon has not finished the consent yet. `refreshd show {request.token}` shows whether its token is"
            " stored. Otherwise start again",
            Exit.UNAVAILABLE,
        ) from None


async def follow_device(
    consents: MongoConsents,
    request: ConsentRequest,
    *,
    state_hash: str,
    life: timedelta,
    taken_within: timedelta = TAKEN_WITHIN,
    confirm: Callable[[ConsentProgress], Awaitable[None]] | None = None,
) -> ConsentResult:
    """Store `request`, and wait until a daemon has polled for its tokens, for the `life` of its device code. If this wait
    is cancelled, no daemon polls any longer. `confirm` completes a bound request, once its grant is held. Raises Failed,
    StoreLost.
    """
    await _stored(consents, request, state_hash)
    try:
        await _taken(consents, request, taken_within)
        async with asyncio.timeout((life + ENDED_WITHIN).total_seconds()):
            if confirm is None:
                return await _ended(consents, request)
            held = await _held(consents, request)
        await confirm(held)
        async with asyncio.timeout(ENDED_WITHIN.total_seconds()):
            return await _ended(consents, request)
    except TimeoutError:
        raise Failed(
            f"the daemon has not finished the consent within the life of its code. `refreshd show {request.token}` shows"
            " whether its token is stored. Otherwise start again",
            Exit.UNAVAILABLE,
        ) from None
    except asyncio.CancelledError:
        await asyncio.shield(_withdrawn(consents, request))
        raise


async def _withdrawn(consents: MongoConsents, request: ConsentRequest) -> None:
    """End a request between two polls. A poll lasts a moment, unless it brings the token."""
    for _ in range(_WITHDRAWALS):
        if await consents.refuse(request.id, WITHDRAWN):
            return
        progress = await consents.progress(request.id)
        if progress is None or progress.held or progress.state.is_final:
            return
        await asyncio.sleep(LOOK_EVERY.total_seconds())


async def _stored(consents: MongoConsents, request: ConsentRequest, state_hash: str) -> None:
    """Store the request. Raises Failed, StoreLost."""
    try:
        await consents.insert(request, state_hash=state_hash)
    except ConsentsRefused as why:
        raise Failed(
            f"the consent can't be stored: {why}. Give this MongoDB user find, insert and update on the collection of"
            " consents"
        ) from None


async def _taken(consents: MongoConsents, request: ConsentRequest, within: timedelta) -> None:
    """Wait until a daemon has taken the request. Raises Failed if none does, or if the request has failed."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within.total_seconds()):
            while True:
                if (await _progress(consents, request)).asked_before:
                    return
                await asyncio.sleep(LOOK_EVERY.total_seconds())
    if (await _progress(consents, request)).asked_before:
        return
    if await consents.refuse(request.id, EXPIRED):
        raise Failed(
            f"no daemon has taken the consent within {within.total_seconds():.0f} seconds. Check that the daemon runs"
            f" and that {request.provider} is configured and not paused: `refreshd status`. Then start again",
            Exit.UNAVAILABLE,
        )


async def _ended(consents: MongoConsents, request: ConsentRequest) -> ConsentResult:
    """Wait until the request has ended. Raises Failed if it has ended without a grant."""
    while True:
        progress = await _progress(consents, request)
        if progress.state is ConsentState.DONE:
            return progress.result or ConsentResult(scope=None, missing_scopes=(), expires_at=None)
        await asyncio.sleep(LOOK_EVERY.total_seconds())


async def _held(consents: MongoConsents, request: ConsentRequest) -> ConsentProgress:
    """Wait until the grant of the request is held. Raises Failed if it has ended without a grant."""
    while True:
        progress = await _progress(consents, request)
        if progress.held:
            return progress
        await asyncio.sleep(LOOK_EVERY.total_seconds())


async def _progress(consents: MongoConsents, request: ConsentRequest) -> ConsentProgress:
    """Return the state of the request. Raises Failed if it has ended without a grant."""
    progress = await consents.progress(request.id)
    if progress is None:
        raise Failed("the consent is stored no longer. Start again")
    if progress.state.is_final and progress.state is not ConsentState.DONE:
        raise _failed(request, progress.failure)
    return progress


def _failed(request: ConsentRequest, failure: ConsentFailure | None) -> Failed:
    if failure is None:
        return Failed(f"{request.token} was not connected. Start again")
    away = failure.kind is ConsentFailureKind.UNAVAILABLE
    code = Exit.UNAVAILABLE if away else Exit.FAILED
    return Failed(f"{request.token} was not connected ({failure.named}): {failure.message}", code)
