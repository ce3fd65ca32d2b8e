"""Requests to providers' token endpoints, and what comes back."""
