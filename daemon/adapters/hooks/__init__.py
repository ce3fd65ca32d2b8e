"""Requests to the receivers of hooks."""
