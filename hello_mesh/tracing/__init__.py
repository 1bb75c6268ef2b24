"""Spans and verdicts: collect the spans of a mesh, store them, and verify that each call is one trace."""
