"""Consent: an authorization code is exchanged once, and its grant is stored."""
