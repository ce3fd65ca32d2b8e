"""The failures of a source. The text of each is one sentence without the secret."""


class SecretMissing(Exception):
    """The source says that the secret, or its field, does not exist."""


class SecretAway(Exception):
    """The source can't be reached, takes too long, limits requests, or grants no right. It may come back."""


class SecretUnusable(Exception):
    """What came can't be a secret: it is binary, too long, or only a part."""
