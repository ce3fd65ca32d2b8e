"""The conditions of a write on the version that is stored: `If-Match` and `If-None-Match` (RFC 9110 section 13.1)."""

from collections.abc import Sequence
from dataclasses import dataclass

from daemon.domain.served_token import ServedToken
from daemon.serving.problems import Problem

ANY = "*"  # any version. No version is this text: they are base64url


@dataclass(frozen=True, slots=True, kw_only=True)
class Preconditions:
    """`match`: the versions of the access token of which the stored one must be, or None for no condition. `none_match`:
    those of which it must not be. ANY stands for every stored token.
    """

    match: frozenset[str] | None = None
    none_match: frozenset[str] = frozenset()

    def require(self, token: ServedToken | None) -> None:
        """Raise Problem unless the stored token fulfils them. None: no token is stored."""
        if self.match is not None and token is None:
            raise Problem("precondition-failed", "No token with this id is stored, and If-Match demands one.")
        if self.match is not None and not _is_one_of(token, self.match):
            raise Problem("precondition-failed", "The stored access token is not the version in If-Match.")
        if _is_one_of(token, self.none_match):
            raise Problem("precondition-failed", "A token is stored that If-None-Match excludes.")


UNCONDITIONAL = Preconditions()


def read_preconditions(match: Sequence[str], none_match: Sequence[str]) -> Preconditions:
    """Return what the headers `If-Match` and `If-None-Match` demand, each given as its lines."""
    return Preconditions(
        match=_versions(match, weak=False) if match else None,
        none_match=_versions(none_match, weak=True),
    )


def _versions(lines: Sequence[str], *, weak: bool) -> frozenset[str]:
    """Return the versions in a header's lines. `weak`: a weak tag names its version too; otherwise it names none, since
    only the comparison for `If-None-Match` is weak (RFC 9110 section 13.1.2).
    """
    tags = [tag.strip() for tag in ",".join(lines).split(",")]
    if tags == [ANY]:
        return frozenset(tags)
    strong = (tag.removeprefix("W/") if weak else tag for tag in tags)
    versions = (tag[1:-1] for tag in strong if len(tag) > 1 and tag[0] == tag[-1] == '"')
    return frozenset(version for version in versions if version != ANY)


def _is_one_of(token: ServedToken | None, versions: frozenset[str]) -> bool:
    return token is not None and (ANY in versions or token.version in versions)
