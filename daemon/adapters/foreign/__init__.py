"""Other applications' token stores: files and PostgreSQL tables, and the encryption of their rows."""
