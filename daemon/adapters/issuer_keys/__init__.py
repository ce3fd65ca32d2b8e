"""The public keys of trusted issuers: fetched, kept for some minutes, and used to check signatures."""
