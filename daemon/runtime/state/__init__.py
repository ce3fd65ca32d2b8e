"""The state directory: its lock, its instance and its file system."""
