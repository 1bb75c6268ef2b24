"""Decode and encode spans, one module per protocol."""
