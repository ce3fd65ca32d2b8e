"""Requests without a valid access key, counted until they are too many: from one address, or of all requests."""

from collections import OrderedDict, deque
from collections.abc import Iterator
from datetime import timedelta

ADDRESS_LEAST, ADDRESS_WITHIN = 10, timedelta(minutes=1)
SHARE, SHARE_LEAST, SHARE_WITHIN = 0.05, 20, timedelta(minutes=5)
EVERYWHERE = "all"  # in place of an address, for the share of all requests
MOST_ADDRESSES = 10_000
_SLICE = timedelta(seconds=10)


class AuthFailures:
    """Counts by the boot clock. Each call costs the same, however many requests there are."""

    def __init__(self) -> None:
        self._times: OrderedDict[str, deque[timedelta]] = OrderedDict()
        self._slices: deque[list[int]] = deque()  # the number of the slice, its requests, its failures
        self._requests = self._failures = 0

    def answered(self, now: timedelta) -> None:
        """Count a request, whatever its answer."""
        self._slice(now)[1] += 1
        self._requests += 1

    def failed(self, address: str, now: timedelta) -> Iterator[tuple[str, int]]:
        """Count a failure. Yield the address, or EVERYWHERE, with the number of failures, if that is too many."""
        times = self._times.pop(address, None) or deque[timedelta](maxlen=ADDRESS_LEAST)
        times.append(now)
        self._times[address] = times
        if len(self._times) > MOST_ADDRESSES:
            self._times.popitem(last=False)
        self._slice(now)[2] += 1
        self._failures += 1
        if len(times) == ADDRESS_LEAST and now - times[0] < ADDRESS_WITHIN:
            yield address, len(times)
        if self._failures >= SHARE_LEAST and self._failures > SHARE * self._requests:
            yield EVERYWHERE, self._failures

    def _slice(self, now: timedelta) -> list[int]:
        number = now // _SLICE
        while self._slices and self._slices[0][0] <= number - SHARE_WITHIN // _SLICE:
            _, requests, failures = self._slices.popleft()
            self._requests -= requests
            self._failures -= failures
        if not self._slices or self._slices[-1][0] != number:
            self._slices.append([number, 0, 0])
        return self._slices[-1]
