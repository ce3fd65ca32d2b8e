"""The journal: replies on the local disk, in SQLite, until MongoDB has them."""
