"""The configured providers: one object for all parts of a process, so that a reload is one assignment."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from daemon.domain.provider import Provider

Use = Callable[[Mapping[str, Provider]], None]


class Providers(Mapping[str, Provider]):
    """The providers that are configured now, by name.

    A part that only looks providers up reads this object. A part that keeps something for each provider follows it.
    """

    def __init__(self, configured: Mapping[str, Provider] = MappingProxyType({})) -> None:
        self._configured = dict(configured)
        self._known = dict(configured)
        self._followers: list[Use] = []

    @property
    def known(self) -> Mapping[str, Provider]:
        """All of them, and those that were configured earlier: a reply to one of their requests may still come."""
        return self._known

    def follow(self, use: Use) -> None:
        """Call `use` with the configured providers, now and after each change."""
        self._followers.append(use)
        use(self)

    def replace(self, configured: Mapping[str, Provider]) -> None:
        """Use these from now on, and no others. When this returns, all followers use them."""
        self._configured = dict(configured)
        self._known |= self._configured
        for use in self._followers:
            use(self)

    def __getitem__(self, name: str) -> Provider:
        return self._configured[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._configured)

    def __len__(self) -> int:
        return len(self._configured)
