"""Spans and verdicts: collects the spans of a mesh, keeps them, and judges whether a call was one trace."""
