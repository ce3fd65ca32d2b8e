"""Hands access tokens out: who asks, whether they may, a fresh token or a wait for one, an answer."""
