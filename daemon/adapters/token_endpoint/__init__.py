"""Requests to providers' token endpoints, and the responses."""
