"""Replies that a strict parser refuses, read leniently: a fault in the frame must not cost the refresh token inside."""

from http.client import HTTPException, HTTPResponse, IncompleteRead
from io import BytesIO
from socket import socket
from typing import cast

from multidict import CIMultiDict


class _Heard:
    """Bytes that came, where the standard library expects a socket."""

    def __init__(self, raw: bytes) -> None:
        self.stream = BytesIO(raw)

    def makefile(self, _mode: str) -> BytesIO:
        return self.stream


def salvaged(raw: bytes) -> tuple[int, CIMultiDict[str], bytes] | None:
    """Status, headers and body, or None where there is no head, or no end of it. All that comes behind the head is the
    body: the announced length is what is often wrong.
    """
    if b"\n\r\n" not in raw and b"\n\n" not in raw:
        return None
    heard = _Heard(raw)
    response = HTTPResponse(cast(socket, heard))
    try:
        response.begin()
        body = response.read() if response.chunked else heard.stream.read()
    except IncompleteRead as broken:
        body = broken.partial
    except HTTPException:
        return None
    return response.status, CIMultiDict(response.headers.items()), body
