"""An owner's consent in a browser: the callback on this machine, or the address that the browser has reached."""

import asyncio
import os
import sys
import webbrowser
from contextlib import AsyncExitStack

from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.loopback import listening, redirect_uri
from daemon.commands.support.output import Output
from daemon.commands.support.stdin_lines import Lines
from daemon.domain.authorization import (
    Authorization,
    Code,
    Denied,
    NotThisConsent,
    query_of,
    read_callback,
)
from daemon.domain.consent_request import WAITS_FOR

_TRIES = 5  # wrong addresses in a row


async def owners_answer(
    authorization: Authorization, url: str, output: Output, *, port: int, paste: bool
) -> Code | Denied:
    """Return the owner's answer. Raises Failed if there is none in time."""
    try:
        async with asyncio.timeout(WAITS_FOR.total_seconds()):
            if paste:
                return await _pasted(authorization, url, output)
            return await _called_back(authorization, url, output, port)
    except TimeoutError:
        minutes = WAITS_FOR.total_seconds() / 60
        raise Failed(f"no consent within {minutes:.0f} minutes. Start again") from None


async def _called_back(authorization: Authorization, url: str, output: Output, port: int) -> Code | Denied:
    async with AsyncExitStack() as closing:
        try:
            listener = await closing.enter_async_context(
                listening(lambda query: read_callback(query, authorization), port)
            )
        except OSError as why:
            raise Failed(
                f"port {port} can't be used ({why.strerror}). Choose another with --port, and register"
                f" {redirect_uri(port)} with that port at the provider",
                Exit.HELD,
            ) from None
        output.note("Open this address in the owner's browser, and consent there:", url)
        await asyncio.to_thread(open_browser, url)
        return await listener.answer


async def _pasted(authorization: Authorization, url: str, output: Output) -> Code | Denied:
    """Read addresses from standard input until one belongs to this consent. Raises Failed."""
    output.note(
        "Open this address in the owner's browser, and consent there:",
        url,
        f"The browser ends on an address that begins with {authorization.redirect_uri} and may show an error. Paste that"
        " address here:",
    )
    lines = Lines()
    for _ in range(_TRIES):
        line = await lines.next()
        if not line:
            raise Failed("standard input ended before the address came. Start again, and paste it")
        try:
            return read_callback(query_of(line, authorization.redirect_uri), authorization)
        except NotThisConsent as why:
            output.note(f"refreshd: {why}. Paste the whole address that the browser has reached:")
    raise Failed("none of the addresses belongs to this consent. Start again")


def open_browser(url: str) -> None:
    """Open the owner's browser if this machine has one with windows. Otherwise the printed address has to do."""
    windows = sys.platform in ("darwin", "win32")
    if windows or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")):
        webbrowser.open(url)
