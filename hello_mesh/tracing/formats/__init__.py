"""Bytes to spans and spans to bytes, one module per protocol."""
