"""What commands do in MongoDB; the daemon itself needs none of it."""
