"""What the access service reads and writes: tokens, access keys, lists, counts of uses."""
