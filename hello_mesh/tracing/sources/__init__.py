"""Stores that commands read spans from."""
