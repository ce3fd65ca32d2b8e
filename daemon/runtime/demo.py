"""The demo: a sandbox provider in this process, and a few tokens with it, so that a newcomer sees renewals at once."""

from dataclasses import replace
from datetime import timedelta

from daemon.adapters.mongo import Mongo
from daemon.adapters.token_document import Written
from daemon.domain.provider import Provider
from daemon.domain.secret import Secret
from daemon.runtime.definitions import shipped
from daemon.runtime.settings import DemoSettings
from daemon.sandbox import Sandbox, SandboxOptions

NAME = "sandbox"


class Demo:
    """Runs from `start()` to `stop()`."""

    def __init__(self, settings: DemoSettings) -> None:
        self._count = settings.tokens
        self._sandbox = Sandbox(SandboxOptions(lifetime=settings.lifetime, grace=timedelta(seconds=60)))
