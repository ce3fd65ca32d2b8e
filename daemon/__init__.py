"""refreshd: keeps OAuth 2.0 tokens fresh. No crash loses a refresh token whose reply is on disk."""

__version__ = "0.1.0"
