"""How calls travel: addresses, channels, TLS, statuses, the generated service."""
