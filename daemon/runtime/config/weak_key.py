"""Detection of 32-byte keys that can be guessed: typed, counted up, stretched, or copied from an example."""

from itertools import pairwise

_RUN = 8  # so many bytes in a row that follow a rule: by chance once in 10^13 keys
# The keys in the vectors for programs that read sealed texts.
_PUBLISHED = frozenset(
    map(
        bytes.fromhex,
        (
            "0081d97730919f5cd1748fdfb422ca580649b8d1c030b6c76fa5ca5f186fe829",
            "027cd24e581fc6d94e64f7b68ec9a23ec8ae77e88c461c583e290e35ca6bc141",
            "060a8224845ed5574f68b33cc918b1e923a455cc8df38f3de625f4230085da98",
            "095181b469e1cd42fde8892d5e15718ba3dfacc50086868214f91df4857a4fd7",
            "1722a3773be4ce3021c73d90b16c19cd7564f94201fa9647f1aa801eb2b5c61b",
            "2e73a675585db80d2af0b311db9f39302cf1aad74f2ff0645bc6ec062fd0d311",
            "30f23f1fd7627b3130739fa3ac2556a93c0d185fd8559024fef2ceae66501622",
            "33830ea9bec07c9d1ca2e899f7a078b63c78934aec2a0c6ae4bfe32ba2ad85b1",
            "443abb6e50abbfceb7ef8ae948d57b3a6d610ca7cae9e018e9331c23efa3f75f",
            "47a1a6118d019815bc10d78fc7ffaf4249733146f5cb375fe65bdaa80ff468b6",
            "7bf409de393e92b3468980842145e5ee9281c05dbb504c16576f626086dcda08",
            "7e048bcf5dca3b69040953c9179e96caf9b85481f9a51d781659fd6711e4077d",
            "8490e35b0ffc4e0c20daeefcf87507bb0f5d177d8e6c2ee274a35936e814e84a",
            "90fa83f05b4e5714a33c63b20c0fd23bd8400ca6c26f3789282fd1987bc3416b",
            "97acd9b75d8f0d63e66ea74e2bb6b7aecbefeeaff63898ad0163e95dd81fc664",
            "9bc1cefa0e52e44015d095cc6bc883bfb5195a4533bb07a9b751e12334b163ce",
            "a1f673ac7b18fa243e455520035e6aeb231c853cf8b3dc0e19da17fff6baeb5c",
            "a65a9ba60d3058d6478dbe5d29e535e80c2cbf47e0e0ddbf6eeb871ac0ce0a41",
            "ae60a1d88981207f0753cf1fc2384221d01cb2ae400b8fbe8489dfe87f648171",
            "b104b4ea6a7d46bffeef5f55142486ef8525ee7122c08cc3d6df7d0a97e926cc",
            "b196aa8cc7cf792e0ce209413e7e25c20b5a88b562205fc6310e1c3a223f52b6",
            "c573e23a1c7c994b6bdd59a9d5dc0b4d9198612fff810696293167a519539dc0",
            "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
            "d210a2c0b1236da9d100fc9417a7873ad68509a30f1e009b19a8205ba9eecf77",
            "dda7f3acb29212179df7115d55cd7b0015788d697293ca3af3cbb59a8a8fb465",
            "ee8e588f228fa5205b2954910f076ab31e64e3b5fa2e9b90111ce1fb577da991",
            "f24fb90d1cb7b9ab95988c65efa7c72a2a0e25df5cf4335bfd5d6b0d3e1f33a4",
            "fadb5d1af9cdce13455a29796fb2231a434b464f280ee627dd02ab8174d0f0ef",
            "fb3912a9d40d7cef358f9e9edef7165110c59909f7fdfa619f94df0e92bd38f3",
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
