"""The shipped layouts: how applications store tokens, one TOML file each."""
