"""The provider definitions we ship: one TOML file each, data only."""
