"""The receiver of a configured hook, as the courier and its sender see it."""

import ssl

from daemon.adapters.egress.names import Names
from daemon.adapters.hooks.sender import HookSender
from daemon.notifying.courier import IN_FLIGHT, Addressee
from daemon.runtime.config.hooks import HookSettings


def addressee(hook: HookSettings) -> Addressee:
    return Addressee(name=hook.name, format=hook.format, keys=hook.keys, configuration=hook.configuration)


def hook_sender(hook: HookSettings, names: Names, tls: ssl.SSLContext) -> HookSender:
    """Return what sends to one hook. Close it."""
    return HookSender(hook.url, names=names, tls=tls, allow_private=hook.allow_private, connections=IN_FLIGHT)
