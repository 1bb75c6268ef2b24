"""The network side of calls: addresses, channels, TLS, statuses, the generated service."""
