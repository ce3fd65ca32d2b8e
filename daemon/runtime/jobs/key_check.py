"""The proof that the ring in use is the one that the store was sealed with: before any claim, and again with
each reload.

A ring with a different key under the right id would open nothing and set every token aside. Worse, a reply
kept under a wrong key could not be opened once the right one is back. So an unproved ring never replaces a
proved one.
"""

import asyncio
from datetime import timedelta

from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.connection import Mongo, Refusal
from daemon.adapters.mongo.keys import NOT_THE_KEY, Proof, keep_check_value, prove
from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.event_log import EventLog
from daemon.domain.claim import StoreLost
from daemon.runtime.parts import Keys

QUICK = timedelta(seconds=5)  # for a look at stored texts while renewals wait for it
PATIENT = timedelta(seconds=30)


class KeyCheck:
    """Proves `keys.ring`, and sets `keys.wrong` to the problem if there is one.

    With a wrong active key nothing may be claimed, because nothing could be sealed. Any other wrong key opens
    nothing, so the tokens that it seals are not touched.
    """

    def __init__(self, keys: Keys, mongo: Mongo, log: EventLog) -> None:
        self._keys = keys
        self._mongo = mongo
        self._log = log
        self._proved = False
        self._offered: KeyRing | None = None  # by a reload, while MongoDB was away
        self._without: set[str] = set()  # keys that got no check value because MongoDB refuses to store one
        self._judged: set[str] = set()  # keys without one that a thorough check has proved
        self._working = asyncio.Lock()

    async def settle(self) -> bool:
        """Prove the ring unless that was done. Returns whether tokens may be claimed. Raises StoreLost."""
        async with self._working:
            if self._offered is not None:
                await self._offer(self._offered)
                self._offered = None
            if not self._proved:
                await self._use(self._keys.ring, within=QUICK)
            return self._keys.ring.active not in self._keys.ring.distrusted

    async def look_again(self) -> None:
        """Prove the ring once more, since its check values may have been replaced. Raises StoreLost."""
        async with self._working:
            proofs = await self._use(self._keys.ring, within=PATIENT)
            self._judged |= {proof.key_id for proof in proofs if not proof.wrong}

    async def offer(self, ring: KeyRing) -> None:
        """Use `ring` from now on, unless the store was sealed with other keys. If MongoDB is down, decide
        when it is back.
        """
        async with self._working:
            try:
                await self._offer(ring)
            except StoreLost:
                self._offered = ring

    async def _offer(self, ring: KeyRing) -> None:
        """Use the ring unless it is wrong and the present one is right."""
        if not self._proved:
            self._keys.ring = ring
            self._judged.clear()
            await self._use(ring, within=QUICK)
            return
        wrong = _wrong(await self._proofs(ring, within=QUICK))
        if wrong:
            self._log.log(log_lines.KEYS_REFUSED, keys=wrong, message=_sentence(wrong))
            return
        self._keys.ring = ring
        self._judged.clear()

    async def _use(self, ring: KeyRing, *, within: timedelta) -> list[Proof]:
        proofs = await self._proofs(ring, within=within)
        wrong = _wrong(proofs)
        self._proved = not wrong
        if ring.distrusted != frozenset(wrong):
            ring = ring.distrusting(wrong)
        self._keys.ring = ring
        before, self._keys.wrong = self._keys.wrong, _sentence(wrong) if wrong else None
        if wrong and before != self._keys.wrong:
            self._log.log(log_lines.KEYS_WRONG, keys=wrong, message=self._keys.wrong)
        elif before and not wrong:
            self._log.log(
                log_lines.KEYS_RIGHT,
                message="every key of the ring is the one that this store was sealed with",
            )
        return proofs

    async def _proofs(self, ring: KeyRing, *, within: timedelta) -> list[Proof]:
        """Return the proofs of each key, after storing check values for the keys that earn one."""
        proofs = await prove(self._mongo, ring, ring.ids, within=within, passing_by=self._judged)
        lacking = [proof.key_id for proof in proofs if proof.earns_check_value]
        kept = [await self._keep(ring, key_id) for key_id in lacking]
        if not all(kept):  # another process has just stored one, perhaps with another key
            proofs = await prove(self._mongo, ring, ring.ids, within=within, passing_by=self._judged)
        return proofs

    async def _keep(self, ring: KeyRing, key_id: str) -> bool:
        try:
            return await keep_check_value(self._mongo, ring, key_id)
        except Refusal as why:
            if key_id not in self._without:
                self._without.add(key_id)
                self._log.log(
                    log_lines.STORE_REFUSED,
                    message=f"can't store a check value of key {key_id!r}: {why}",
                )
            return True


def _wrong(proofs: list[Proof]) -> list[str]:
    return [proof.key_id for proof in proofs if proof.wrong]


def _sentence(wrong: list[str]) -> str:
    return "; ".join(f"key {key_id!r} {NOT_THE_KEY}" for key_id in wrong)
