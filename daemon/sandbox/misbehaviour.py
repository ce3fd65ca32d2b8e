"""How the sandbox misbehaves on the wire: one reply, delivered as it should be or as a fault will have it."""

import asyncio
import socket
import struct
from collections.abc import Mapping
from dataclasses import replace

from aiohttp import web

from daemon.sandbox.dialects import Dialect
from daemon.sandbox.faults import Fault, Kind, Standing
from daemon.sandbox.wording import JSON, Refusal, Reply

_HUGE = 2 * 1024 * 1024
_STEPS = 100  # writes at most for one slow body
_PAGE = b"<!doctype html><title>Back soon</title><p>Maintenance</p>".ljust(100 * 1024)
_GARBAGE = b"<!doctype html>\x00\xff\xfe{access_token: <%= token %>"


_IN_PLACE: Mapping[Kind, Refusal] = {
    "throttle": Refusal(complaint="throttled", detail="too many requests"),
    "dead_grant": Refusal(complaint="invalid_grant", detail="the grant has ended (a fault says so)"),
    "wrong_client": Refusal(complaint="invalid_client", detail="unknown client (a fault says so)"),
    "error": Refusal(complaint="broken", detail="something broke (a fault says so)"),
}
_OTHERWISE = Refusal(complaint="down", detail="back soon (a fault says so)")


def reply_in_place(fault: Fault, dialect: Dialect) -> Reply:
    """What is answered when a fault strikes before the request took effect."""
    reply = dialect.refuse(_IN_PLACE.get(fault.kind, _OTHERWISE), wording=fault.wording)
    return replace(reply, headers={**reply.headers, **_retry_header(fault.retry_after)})


def wordings(kind: Kind, dialect: Dialect) -> int:
    """In how many wordings `dialect` can say what this kind of fault says."""
    return len(dialect.refusals[_IN_PLACE.get(kind, _OTHERWISE).complaint])


def spoil(reply: Reply, fault: Fault, dialect: Dialect) -> Reply:
    """What a fault makes of a reply before anything is written; most faults spoil only how it travels."""
    match fault.kind:
        case "error" | "outage":
            return reply_in_place(fault, dialect)
        case "garbage":
            return replace(reply, status=200, body=_GARBAGE, content_type=JSON)
        case "page":
            return replace(reply, status=200, body=_PAGE, content_type="text/html")
        case "wrong_type":
            return replace(reply, content_type="text/html")
        case "huge":
            if reply.content_type != JSON:
                return replace(reply, body=reply.body + b"&padding=" + b"x" * _HUGE)
            padding = b',"padding":"' + b"x" * _HUGE + b'"}'
            return replace(reply, body=reply.body.removesuffix(b"}") + padding)
        case _:
            return reply


async def deliver(request: web.Request, reply: Reply, standing: Standing) -> web.StreamResponse | None:
    """Send a reply as the fault will have it. None: nothing was written, and nothing will be.

    Raises ConnectionError where the client has gone.
    """
    match standing.fault.kind:
        case "hang":
            await asyncio.Event().wait()  # until the client goes or the sandbox stops: both cancel this
            return None
        case "reset":
            _reset(request)
            return None
        case "cut":
            return await _send_half(request, reply)
        case "slow":
            return await _send_slowly(request, reply, standing.fault.seconds)
        case "withhold":
            await standing.deleted.wait()
            return await send(request, reply)
        case _:
            return await send(request, reply)


async def send(request: web.Request, reply: Reply) -> web.StreamResponse:
    """Write the whole reply now, so that the caller knows the moment when the socket had it.

    Raises ConnectionError where the client has gone.
    """
    response = web.Response(
        status=reply.status, body=reply.body, content_type=reply.content_type, headers=_headers(reply)
    )
    await response.prepare(request)
    await response.write_eof()
    return response


async def _send_half(request: web.Request, reply: Reply) -> web.StreamResponse:
    response = await _promise(request, reply)
    await response.write(reply.body[: len(reply.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


async def _send_slowly(request: web.Request, reply: Reply, seconds: float) -> web.StreamResponse:
    response = await _promise(request, reply)
    size = -(-len(reply.body) // _STEPS)
    pieces = [reply.body[start : start + size] for start in range(0, len(reply.body), size)]
    for piece in pieces:
        await asyncio.sleep(seconds / len(pieces))
        await response.write(piece)
    await response.write_eof()
    return response


async def _promise(request: web.Request, reply: Reply) -> web.StreamResponse:
    """The head of an answer, with a Content-Length that the body may or may not keep."""
    response = web.StreamResponse(status=reply.status, headers=_headers(reply))
    response.content_type = reply.content_type
    response.content_length = len(reply.body)
    response.force_close()
    await response.prepare(request)
    return response


def _reset(request: web.Request) -> None:
    """Drop the connection with an RST rather than a FIN: SO_LINGER with no time to linger."""
    if request.transport is None:
        return
    sock = request.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()


def _headers(reply: Reply) -> dict[str, str]:
    """RFC 6749, section 5.1: whatever carries tokens must not be cached."""
    return {"Cache-Control": "no-store", "Pragma": "no-cache", **reply.headers}


def _retry_header(retry_after: str | None) -> dict[str, str]:
    return {} if retry_after is None else {"Retry-After": retry_after}
