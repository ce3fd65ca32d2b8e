"""Grants that are sealed in their consents: stored once they are completed, given up if they are not.

Each of them is the property of no instance. The one that takes it has a lease, after which another one may take it.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta

from daemon.connecting.binding import Binder, not_connected
from daemon.connecting.discarding import Discarder
from daemon.connecting.ports import Clock, Consents, Lanes, Observe
from daemon.domain.claim import StoreLost, Unusable
from daemon.domain.consent_request import (
    ConsentFailure,
    ConsentFailureKind,
    ConsentRequest,
    ConsentState,
    Malformed,
)
from daemon.domain.event import InternalError
from daemon.domain.held_grant import DueGrant, HeldGrant, NotReadable, TakenGrant, held_grant
from daemon.domain.provider import Provider
from daemon.domain.secret import Secret
from daemon.domain.session_proof import NotAProof, proof_in, proves

MOST_OF_ONE = 4  # grants of one provider in the hands of this instance
MOST_UNREADABLE = 10  # attempts to open a completed grant: an instance that has its key may come
OPEN_AGAIN = timedelta(minutes=1)

_ABANDONED = ConsentFailure(
    kind=ConsentFailureKind.ABANDONED,
    message="it was declined, or not completed in time: begin again",
)
_UNPROVEN = ConsentFailure(
    kind=ConsentFailureKind.UNREADABLE,
    message="its completion is not that of the session which began it: begin again",
)
_UNREADABLE = ConsentFailure(
    kind=ConsentFailureKind.UNREADABLE, message="the held grant can't be read: begin again"
)


class HeldGrants:
    """Stores completed grants, and gives up the others. A grant that is not stored is left to `discarder`."""

    def __init__(
        self,
        *,
        providers: Mapping[str, Provider],
        lanes: Lanes,
        consents: Consents,
        binder: Binder,
        discarder: Discarder,
        clock: Clock,
        observe: Observe,
    ) -> None:
        self._providers = providers
        self._lanes = lanes
        self._consents = consents
        self._binder = binder
        self._discarder = discarder
        self._clock = clock
        self._observe = observe
        self._released = False
        self._running: dict[str, asyncio.Task[None]] = {}
        self._of_one: Counter[str] = Counter()

    async def release_once(self) -> None:
        """Give back, at the first call, the grants that this instance had when it last ended. Raises StoreLost."""
        if not self._released:
            await self._consents.release()
            self._released = True

    async def look(self) -> None:
        """Begin with the grants whose time has come. Raises StoreLost."""
        for due in await self._consents.due_grants(list(self._providers)):
            if due.id not in self._running and self._may_begin(due):
                self._of_one[due.provider] += 1
                self._running[due.id] = asyncio.create_task(self._run(due), name=f"grant of {due.id}")

    async def ended(self) -> None:
        """Wait until nothing is running."""
        while self._running:
            await asyncio.wait(self._running.values())

    def _may_begin(self, due: DueGrant) -> bool:
        if self._of_one[due.provider] >= MOST_OF_ONE:
            return False
        lane = self._lanes(due.provider)
        return not due.state.is_final or (lane is not None and lane.may_present())

    async def _run(self, due: DueGrant) -> None:
        """Process one grant. An error must not reach the others."""
        try:
            lane = self._lanes(due.provider)
            if not due.state.is_final:
                await self._process(due)
            elif lane is not None:
                await lane.present(lambda: self._process(due))
        except (StoreLost, Unusable):
            pass  # its lease ends
        except Exception as error:  # noqa: BLE001  one grant's bug must not reach the others
            self._observe(InternalError(where="connect", provider=due.provider, error=error))
        finally:
            del self._running[due.id]
            self._of_one[due.provider] -= 1

    async def _process(self, due: DueGrant) -> None:
        taken = await self._consents.take_grant(due.id)
        if taken is None or taken.due.state.is_final != due.state.is_final:
            return
        if taken.due.state is ConsentState.DONE:
            await self._consents.forget_grant(due.id)
        elif taken.due.state.is_final:
            await self._discarder.discarded(taken)
        elif taken.due.completed:
            await self._complete(taken)
        else:
            await self._give_up(taken, ConsentState.ABANDONED, _ABANDONED)

    async def _complete(self, taken: TakenGrant) -> None:
        """Store a completed grant. Its request is as it was stored, because its id says so. Its completion is the
        application's, because the sealed proof says so: `completed_at` alone may be anyone's.
        """
        request = taken.request
        if (taken.text is None or taken.proof is None) and taken.tries < MOST_UNREADABLE:
            due_at = self._clock.now() + OPEN_AGAIN
            await self._consents.postpone(taken.due.id, due_at=due_at, tries=taken.tries + 1)
            return
        failure: ConsentFailure | None = _UNREADABLE
        if not isinstance(request, Malformed) and taken.text is not None and taken.proof is not None:
            try:
                grant = held_grant(taken.text)
            except NotReadable:
                pass
            else:
                is_proven = _is_proven(request, grant, taken.proof)
                failure = await self._binder.bind(request, grant) if is_proven else _UNPROVEN
        if failure is not None:
            await self._give_up(taken, ConsentState.FAILED, failure)

    async def _give_up(self, taken: TakenGrant, state: ConsentState, failure: ConsentFailure) -> None:
        ended = await self._consents.give_up(taken.due.id, state, failure)
        if ended and not isinstance(taken.request, Malformed):
            self._observe(not_connected(taken.request, failure))


def _is_proven(request: ConsentRequest, grant: HeldGrant, proof: Secret) -> bool:
    """Return whether a sealed proof completes `grant`: it has the connect code of the browser in which its owner has
    consented, and the verifier of the session that began the consent.
    """
    if grant.connect_code_hash is None or request.code_challenge is None:
        return False
    try:
        found = proof_in(proof)
    except NotAProof:
        return False
    return proves(found, connect_code_hash=grant.connect_code_hash, challenge=request.code_challenge)
