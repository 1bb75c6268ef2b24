"""Helpers for every other package: errors, text, logging, shared options."""
