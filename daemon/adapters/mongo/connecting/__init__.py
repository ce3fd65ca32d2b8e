"""Consent requests and their grants, as MongoDB holds them."""
