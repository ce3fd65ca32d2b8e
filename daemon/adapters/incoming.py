"""A provider's reply as it comes in: lenient about its form, exact about its end (RFC 9112).

A strict parser drops a reply for a wrong length, a header too long or a chunk that is none, and the refresh token in it
with the rest. Here whatever looks like a reply is read as far as it can be understood, and further. Leniency ends there:
only a reply that ended exactly as it announced leaves its connection to another request.
"""

import asyncio
import re

from aiohttp import ClientError, ServerDisconnectedError
from multidict import CIMultiDict

LARGEST_REPLY = 256 * 1024  # bytes; a token reply has one to four thousand

_INTERIM = frozenset(range(100, 200)) - {101}  # something more comes behind these (RFC 9110 §15.2)
_BODILESS = frozenset({101, 204, 304})
_STATUS = re.compile(rb"HTTP/(\d)(?:\.(\d))? +([1-9]\d\d)(?!\d)", re.IGNORECASE)
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_LENGTH = re.compile(r"[0-9]{1,15}")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")
_LINE_END = re.compile(rb"\r?\n")


class NotHttp(ClientError):
    """Something has come back, and is no reply."""


class Incoming:
    """What `feed` was given so far, understood. Total: any bytes, in any pieces. Its steps are kept unbound: a bound one
    would make a cycle of each reply, and memory grow until the garbage collector comes.
    """

    def __init__(self) -> None:
        self.status = 0  # none so far
        self.headers = CIMultiDict[str]()
        self.body = bytearray()
        self.faulty = False  # where it ends can't be told from what it announces
        self.over = False  # nothing more belongs to it
        self.whole = False  # it ended as announced
        self.reusable = False  # and so exactly that its connection can serve another request
        self.broken: Exception | None = None  # what ended the connection before that
        self.settled = asyncio.Event()  # it is over, or faulty
        self._waiting = bytearray()  # what is not understood yet
        self._searched = 0  # of that, for the end of the head
        self._left = 0  # bytes of the body, or of a chunk of it
        self._kept_open = False
        self._step = Incoming._read_head  # what comes next; it says whether it got on

    def feed(self, data: bytes) -> None:
        """More of it has come."""
        if self.over:
            self.reusable = False
            return
        self._waiting += data
        while self._step(self):
            pass
        if len(self.body) + len(self._waiting) > LARGEST_REPLY:
            self._end(whole=False)

    def lost(self, why: BaseException | None) -> None:
        """The connection is gone; `why` is None where the other side closed it in order."""
        self.reusable = False
        if self.over:
            return
        self.broken = why if isinstance(why, Exception) else ServerDisconnectedError()
        self._end(whole=why is None and self._step is Incoming._read_rest and not self.faulty)

    def _read_head(self) -> bool:
        waiting = self._waiting
        while waiting.startswith((b"\r", b"\n")):
            del waiting[0]
        if waiting[:5].upper() != b"HTTP/"[: len(waiting)]:
            self._end(whole=False)
            return False
        end = _END_OF_HEAD.search(waiting, self._searched)
        if end is None:
            self._searched = max(0, len(waiting) - 2)
            return False
        first, *lines = bytes(waiting[: end.start()]).split(b"\n")
        del waiting[: end.end()]
        self._searched = 0
        said = _STATUS.match(first.rstrip())
        if said is None:
            self._end(whole=False)
            return False
        if int(said[3]) not in _INTERIM:
            self.status = int(said[3])
            self.headers.extend(map(_header, lines))
            self._announced(persistent=said[1] == b"1" and said[2] == b"1")
        return True

    def _announced(self, *, persistent: bool) -> None:
        """How the body ends (RFC 9112 §6.3)."""
        headers = self.headers
        lengths, codings = headers.getall("Content-Length", []), headers.getall("Transfer-Encoding", [])
        closes = "close" in ",".join(headers.getall("Connection", [])).lower()
        self._kept_open = persistent and not closes and len(lengths) + len(codings) == 1
        if "chunked" in ",".join(codings).lower():
            self._step = Incoming._read_chunk_size
        elif not lengths:
            self._step = Incoming._read_counted if self.status in _BODILESS else Incoming._read_rest
        elif len(set(lengths)) == 1 and _LENGTH.fullmatch(lengths[0]):
            self._left = int(lengths[0])
            self._step = Incoming._read_counted
        else:
            self._doubt()

    def _read_counted(self) -> bool:
        self._take()
        if not self._left:
            self._reach_end()
        return False

    def _read_chunk_size(self) -> bool:
        if self._waiting and not _CHUNK_SIZE.match(self._waiting):
            return self._doubt()
        line = self._line()
        if line is None:
            return False
        size = line.partition(b";")[0].strip()
        if not _CHUNK_SIZE.fullmatch(size):
            self._waiting[:0] = line + b"\n"
            return self._doubt()
        self._left = int(size, 16)
        self._step = Incoming._read_chunk if self._left else Incoming._read_trailer
        return True

    def _read_chunk(self) -> bool:
        self._take()
        if self._left:
            return False
        self._step = Incoming._read_chunk_end
        return True

    def _read_chunk_end(self) -> bool:
        if bytes(self._waiting[:2]) in {b"", b"\r"}:
            return False
        ending = _LINE_END.match(self._waiting)
        if ending is None:
            return self._doubt()
        del self._waiting[: ending.end()]
        self._step = Incoming._read_chunk_size
        return True

    def _read_trailer(self) -> bool:
        line = self._line()
        if line is not None and not line.strip():
            self._reach_end()
            return False
        return line is not None

    def _read_rest(self) -> bool:
        """All that comes, until the connection ends."""
        self.body += self._waiting
        self._waiting.clear()
        return False

    def _take(self) -> None:
        taken = self._waiting[: self._left]
        del self._waiting[: self._left]
        self.body += taken
        self._left -= len(taken)

    def _line(self) -> bytes | None:
        end = self._waiting.find(b"\n")
        if end < 0:
            return None
        line = bytes(self._waiting[:end])
        del self._waiting[: end + 1]
        return line

    def _reach_end(self) -> None:
        """Where it said that it ends. More than a line's end behind that belies it: then all of it is the body."""
        if self._waiting.strip(b"\r\n"):
            self._doubt()
        else:
            self.reusable = self._kept_open and not self._waiting
            self._end(whole=True)

    def _doubt(self) -> bool:
        """What came so far and was not understood, and all that comes, is taken for the body."""
        self.faulty = True
        self.settled.set()
        self._step = Incoming._read_rest
        return self._read_rest()

    def _end(self, *, whole: bool) -> None:
        if self.over:
            return
        self.over = True
        self.whole = whole and len(self.body) <= LARGEST_REPLY
        self.settled.set()


def _header(line: bytes) -> tuple[str, str]:
    name, _, value = line.decode("latin-1").partition(":")
    return name.strip(), value.strip()
