"""refreshd: keeps OAuth 2.0 tokens fresh, and never loses a rotated refresh token."""

__version__ = "0.1.0"
