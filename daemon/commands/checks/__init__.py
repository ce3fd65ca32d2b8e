"""What `refreshd check` tries, one file for each part of what the daemon relies on."""
