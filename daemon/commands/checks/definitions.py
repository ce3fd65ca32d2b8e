"""The keys of configured providers that are valid one by one, but hardly mean what they say."""

import re
from collections.abc import Iterable, Iterator

from daemon.commands.checks.report import Report
from daemon.commands.support.output import span
from daemon.domain.provider import Provider, Rotation

_JOINTS = re.compile(r"[,;+]|%20")  # as scopes are joined in a URL, a form or a sentence

Doubt = tuple[str, str, str]  # the key, what is odd about it, what to write


def check_definitions(providers: Iterable[Provider], report: Report) -> None:
    """Warn of each such key. The daemon starts with it, because the provider may be the odd one."""
    for provider in providers:
        for key, what, do in doubts(provider):
            report.warn(f"providers.{provider.name}.{key}", what, do)


def doubts(provider: Provider) -> Iterator[Doubt]:
    yield from _joined_scopes(provider)
    definition = provider.definition
    if definition.rotation is Rotation.NEVER and (definition.grace or definition.grace_until_used):
        what = 'is set beside rotation = "never": a refresh token that is never replaced is never spent'
        yield "grace", what, "Remove grace, or correct rotation."
    window, lifetime = provider.window or definition.window, definition.access_lifetime
    if window is not None and lifetime is not None and window >= lifetime:
        what = (
            f"is {span(window)}, but the access token lives {span(lifetime)}: "
            "refreshd renews in the last third of its life"
        )
        yield "window", what, "Write a shorter time, or correct access_lifetime."


def _joined_scopes(provider: Provider) -> Iterator[Doubt]:
    """Yield the first scope that looks like several. It would be sent as one, which the provider doesn't know."""
    for scope in provider.definition.scopes:
        parts = [part for part in _JOINTS.split(scope) if part]
        if len(parts) > 1:
            listed = ", ".join(f'"{part}"' for part in parts)
            do = f"If these are several scopes, write scopes = [{listed}]."
            if "," in scope:
                do = f'{do[:-1]}, and scope_separator = "," if the provider wants commas.'
            yield "scopes", f"contain {scope!r}, which is sent as one scope", do
            return
