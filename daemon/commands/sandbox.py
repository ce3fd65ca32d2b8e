"""`refreshd sandbox`: the local provider, until a signal ends it. Its one line tells a program where it is."""

import asyncio
import errno
import json
import signal

from daemon.commands.support.failure import Exit, Failed
from daemon.runtime.web.port_holder import port_holder
from daemon.sandbox import Sandbox, SandboxOptions


def sandbox(wishes: SandboxOptions) -> int:
    """Serve until SIGINT or SIGTERM."""
    asyncio.run(_serve(Sandbox(wishes)))
    return Exit.DONE


async def _serve(server: Sandbox) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await server.start()
    except OSError as why:
        raise _refused(server.options.port, why) from None
    try:
        print(json.dumps(server.describe()), flush=True)
        await stop.wait()
    finally:
        await server.stop()


def _refused(port: int, why: OSError) -> Failed:
    if why.errno != errno.EADDRINUSE:
        return Failed(f"port {port} can't be listened on: {why.strerror}. Choose another with --port")
    holder = port_holder(port)
    taken = f"is in use by {holder}" if holder else "is in use by another process"
    return Failed(f"port {port} {taken}. Stop that, or choose another with --port (0: any)", Exit.HELD)
