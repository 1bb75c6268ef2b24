"""Verify that a call is one trace, and name the service that broke it."""
