"""Where spans are read from."""
