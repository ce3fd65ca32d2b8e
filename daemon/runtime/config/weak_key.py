"""Detection of 32-byte keys that can be guessed: typed, counted up, stretched, or copied from an example."""

from itertools import pairwise

_RUN = 8  # so many bytes in a row that follow a rule: by chance once in 10^13 keys
# The keys in the vectors for programs that read sealed texts.
_PUBLISHED = frozenset(
    map(
        bytes.fromhex,
        (
            "027cd24e581fc6d94e64f7b68ec9a23ec8ae77e88c461c583e290e35ca6bc141",
            "060a8224845ed5574f68b33cc918b1e923a455cc8df38f3de625f4230085da98",
            "095181b469e1cd42fde8892d5e15718ba3dfacc50086868214f91df4857a4fd7",
            "443abb6e50abbfceb7ef8ae948d57b3a6d610ca7cae9e018e9331c23efa3f75f",
            "47a1a6118d019815bc10d78fc7ffaf4249733146f5cb375fe65bdaa80ff468b6",
            "7bf409de393e92b3468980842145e5ee9281c05dbb504c16576f626086dcda08",
            "8490e35b0ffc4e0c20daeefcf87507bb0f5d177d8e6c2ee274a35936e814e84a",
            "c573e23a1c7c994b6bdd59a9d5dc0b4d9198612fff810696293167a519539dc0",
            "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
            "dda7f3acb29212179df7115d55cd7b0015788d697293ca3af3cbb59a8a8fb465",
            "ee8e588f228fa5205b2954910f076ab31e64e3b5fa2e9b90111ce1fb577da991",
        ),
    )
)


def weakness(key: bytes) -> str | None:
    """Return why `key` is not 32 random bytes, or None if nothing shows it. It refuses fewer than one in
    10^10 random keys.
    """
    if key in _PUBLISHED:
        return "it is published as an example"
    if len(set(key)) <= 8:
        return "nearly all of its bytes are equal"
    if _counts(key):
        return "its bytes count up or down"
    if _repeats(key):
        return "it repeats itself"
    if _is_text(key):
        return "it is text, not random bytes"
    return None


def _counts(key: bytes) -> bool:
    """Return whether some bytes in a row have the same distance: 1, 2, 3 or 5, 5, 5."""
    steps = [(after - before) % 256 for before, after in pairwise(key)]
    row = _RUN - 1
    return any(len(set(steps[at : at + row])) == 1 for at in range(len(steps) - row + 1))


def _repeats(key: bytes) -> bool:
    """Return whether half of the key determines the rest: the same bytes again, forwards or backwards."""
    period = any(key.startswith(key[at:]) for at in range(1, len(key) // 2 + 1))
    return period or key == key[::-1]


def _is_text(key: bytes) -> bool:
    """Return whether the key consists of letters, in any script, and punctuation."""
    try:
        text = key.strip(b"\0").decode()
    except UnicodeDecodeError:
        return False
    return all(char.isprintable() or char.isspace() for char in text)
