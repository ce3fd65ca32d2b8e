"""The names of files and folders in the state directory."""

LOCK = "lock"  # held by the daemon that uses the directory
IDENTITY = "instance.json"  # of the instance
JOURNAL = "journal.db"  # replies, until they are stored
MONGODB = "mongodb"  # the data of the embedded MongoDB
MONGODB_URI = "mongodb.uri"  # the URI of the embedded MongoDB while it runs
MIRRORS = "mirrors"  # what a mirror with live refresh tokens last wrote
IMPORTS = "imports"  # sealed copies of what was imported
