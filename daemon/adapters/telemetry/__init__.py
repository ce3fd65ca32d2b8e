"""Observability: metrics, the log, the last hour. Secrets are redacted here."""
