"""One connection to a provider: it remembers what came as it came, and hangs up on what nobody asked for."""

import asyncio

from aiohttp.client_proto import ResponseHandler

LARGEST_REPLY = 256 * 1024  # bytes; a token reply has one to four thousand


class Line(ResponseHandler):
    """aiohttp's protocol of a connection, which parses replies strictly and keeps nothing of one that it refuses."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._heard: bytearray | None = bytearray()  # None: it waits for its next request

    def listen(self) -> bytearray:
        """What comes from now on is the reply. Returns where it gathers, until it is larger than LARGEST_REPLY."""
        self._heard = bytearray()
        return self._heard

    def rest(self) -> None:
        """The reply is over. What comes now was not asked for: it would pass for the answer to the next request."""
        self._heard = None

    def data_received(self, data: bytes) -> None:
        if self._heard is None:
            self.abort()
            return
        if len(self._heard) <= LARGEST_REPLY:
            self._heard += data
        super().data_received(data)
