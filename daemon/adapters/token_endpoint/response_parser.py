"""Parser of provider responses: lenient about their form, exact about their end (RFC 9112).

A strict parser rejects a response for a wrong length, a long header or an invalid chunk, and drops the
refresh token in it. This one parses malformed responses as far as possible. It is strict about one thing:
only a response that ended exactly as announced lets its connection be used again.

A provider may be hostile, and its response endless. Every byte since the request belongs to the body, to the
head (with preceding blank lines and interim responses) or to the framing (chunk sizes, extensions, trailers),
and each of these has a limit. Work is limited too: `go_on` does a small portion of it, and `line` lets other
connections in between.
"""

import asyncio
import re

from aiohttp import ClientError, ServerDisconnectedError
from multidict import CIMultiDict

LARGEST_REPLY = 256 * 1024  # bytes of a body
ORDINARY_REPLY = 16 * 1024  # a token reply has one to four thousand
LARGEST_HEAD = 64 * 1024  # bytes
LARGEST_FRAMING = 16 * 1024  # bytes
MOST_FIELDS = 1_000  # of a head; later ones are ignored
MOST_INTERIM = 16  # replies before the reply
PORTION = 200  # steps at a time; a real reply takes about ten
ORDINARY_PIECES = 64  # a real reply arrives in one or two

_INTERIM = frozenset(range(100, 200)) - {101}  # something more comes behind these (RFC 9110 §15.2)
_BODILESS = frozenset({101, 204, 304})
_STATUS = re.compile(r"HTTP/(\d)(?:\.(\d))? +([1-9]\d\d)(?!\d)", re.IGNORECASE | re.ASCII)
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_LENGTH = re.compile(r"[0-9]{1,15}")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")
_LINE_END = re.compile(rb"\r?\n")
_BLANK_LINE = re.compile(rb"(?:\A|\n)[ \t\r]*\n")


class NotHttp(ClientError):
    """The received data is not an HTTP response."""


class Endless(ClientError):
    """The received data exceeds the limit of a response's head."""


class ResponseParser:
    """Parsed state of the response. Accepts any bytes in any pieces, at bounded cost.

    Its steps are stored unbound: a bound method would make each response a reference cycle, and memory would
    grow until the garbage collector runs.
    """

    def __init__(self) -> None:
        self.status = 0  # none so far
        self.headers = CIMultiDict[str]()
        self.body = bytearray()
        self.framing_error = False  # its announced end can't be trusted
        self.ended = False  # nothing more belongs to it
        self.complete = False  # it ended as announced
        self.keep_alive = False  # and so exactly that its connection can serve another request
        self.connection_error: Exception | None = None  # the error that ended the connection before that
        self.settled = asyncio.Event()  # it is over, or faulty
        self.behind = False  # `go_on` has more to do, although nothing new has come
        self._received = 0  # bytes
        self._pieces = 0
        self._interim = 0  # replies
        self._spare = LARGEST_HEAD  # bytes that may still come beside the body
        self._waiting = bytearray()  # bytes that are not parsed yet
        self._searched = 0  # of that, in vain
        self._left = 0  # bytes of the body, or of a chunk of it
        self._kept_open = False
        self._step = ResponseParser._read_head  # the next step; it returns whether it made progress

    @property
    def greedy(self) -> bool:
        """Return whether it needs more work than a real response, so that other connections should come
        first.
        """
        return not self.ended and (self.behind or self._pieces > ORDINARY_PIECES)

    def feed(self, data: bytes) -> None:
        """Accept more received bytes."""
        if self.ended:
            self.keep_alive = False
            return
        self._received += len(data)
        self._pieces += 1
        self._waiting += data
        self.go_on()
        if self._received > LARGEST_HEAD + LARGEST_FRAMING + LARGEST_REPLY:
            self._end(whole=False)

    def go_on(self) -> None:
        """Parse a portion of the received bytes."""
        for _ in range(PORTION):
            self.behind = self._step(self)
            beside = 0 if self.behind else len(self._waiting)
            if beside > self._spare or self._interim > MOST_INTERIM or len(self.body) > LARGEST_REPLY:
                self.connection_error = Endless()
                self._end(whole=False)
            if not self.behind:
                return

    def stop(self) -> None:
        """Stop at the deadline. Bytes that are not parsed yet are kept as they are."""
        if self.behind:
            self.behind = self._doubt()

    def lost(self, why: BaseException | None) -> None:
        """Handle the end of the connection. `why` is None if the other side closed it in order."""
        self.stop()
        self.keep_alive = False
        if self.ended:
            return
        self.connection_error = why if isinstance(why, Exception) else ServerDisconnectedError()
        self._end(whole=why is None and self._step is ResponseParser._read_rest and not self.framing_error)

    def _read_head(self) -> bool:
        waiting = self._waiting
        if waiting.startswith((b"\r", b"\n")):
            self._drop(len(waiting) - len(waiting.lstrip(b"\r\n")))
        if waiting[:5].upper() != b"HTTP/"[: len(waiting)]:
            return self._end(whole=False)
        end = _END_OF_HEAD.search(waiting, self._searched, LARGEST_HEAD)
        if end is None:
            self._searched = max(0, len(waiting) - 2)
            return False
        first, *lines = waiting[: end.start()].decode("latin-1").split("\n", MOST_FIELDS + 1)
        self._drop(end.end())
        said = _STATUS.match(first)
        if said is None:
            return self._end(whole=False)
        if int(said[3]) in _INTERIM:
            self._interim += 1
            return True
        self.status, self._spare = int(said[3]), LARGEST_FRAMING
        self.headers.extend(map(_header, lines[:MOST_FIELDS]))
        self._announced(persistent=said[1] == said[2] == "1")
        return True

    def _announced(self, *, persistent: bool) -> None:
        """Decide how the body ends (RFC 9112 §6.3)."""
        headers = self.headers
        lengths, codings = headers.getall("Content-Length", []), headers.getall("Transfer-Encoding", [])
        closes = "close" in ",".join(headers.getall("Connection", [])).lower()
        self._kept_open = persistent and not closes and len(lengths) + len(codings) == 1
        if "chunked" in ",".join(codings).lower():
            self._step = ResponseParser._read_chunk_size
        elif not lengths:
            self._step = (
                ResponseParser._read_counted if self.status in _BODILESS else ResponseParser._read_rest
            )
        elif len(set(lengths)) == 1 and _LENGTH.fullmatch(lengths[0]):
            self._left = int(lengths[0])
            self._step = ResponseParser._read_counted
        else:
            self._doubt()

    def _read_counted(self) -> bool:
        self._take()
        return False if self._left else self._reach_end()

    def _read_chunk_size(self) -> bool:
        if self._waiting and not _CHUNK_SIZE.match(self._waiting):
            return self._doubt()
        end = self._waiting.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._waiting)
            return False
        size = self._waiting[:end].partition(b";")[0].strip()
        if not _CHUNK_SIZE.fullmatch(size):
            return self._doubt()
        self._drop(end + 1)
        self._left = int(size, 16)
        self._step = ResponseParser._read_chunk if self._left else ResponseParser._read_trailer
        return True

    def _read_chunk(self) -> bool:
        self._take()
        if self._left:
            return False
        self._step = ResponseParser._read_chunk_end
        return True

    def _read_chunk_end(self) -> bool:
        if bytes(self._waiting[:2]) in {b"", b"\r"}:
            return False
        ending = _LINE_END.match(self._waiting)
        if ending is None:
            return self._doubt()
        self._drop(ending.end())
        self._step = ResponseParser._read_chunk_size
        return True

    def _read_trailer(self) -> bool:
        """Skip trailer fields up to the blank line."""
        waiting = self._waiting
        if waiting.find(b"\n", self._searched) < 0:
            self._searched = len(waiting)
            return False
        end = _BLANK_LINE.search(waiting, 0, LARGEST_FRAMING)
        self._drop(end.end() if end else waiting.rfind(b"\n") + 1)
        return self._reach_end() if end else True

    def _read_rest(self) -> bool:
        """Read until the connection ends."""
        self.body += self._waiting
        self._waiting.clear()
        return False

    def _take(self) -> None:
        taken = self._waiting[: self._left]
        del self._waiting[: self._left]
        self.body += taken
        self._left -= len(taken)

    def _drop(self, count: int) -> None:
        """Skip bytes that are parsed and not part of the body."""
        self._spare -= count
        del self._waiting[:count]
        self._searched = 0

    def _reach_end(self) -> bool:
        """Stop at the announced end. If more than a line end follows, the announcement was wrong, and all of
        it is the body.
        """
        if self._waiting.strip(b"\r\n"):
            return self._doubt()
        self.keep_alive = self._kept_open and not self._waiting
        return self._end(whole=True)

    def _doubt(self) -> bool:
        """Treat unparsed bytes and all further ones as the body."""
        self.framing_error = True
        self.settled.set()
        self._step = ResponseParser._read_rest
        return self._read_rest()

    def _end(self, *, whole: bool) -> bool:
        if not self.ended:
            self.ended = True
            self.complete = whole and len(self.body) <= LARGEST_REPLY
            self.settled.set()
            self._waiting.clear()
        self.behind = False
        return False


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()
