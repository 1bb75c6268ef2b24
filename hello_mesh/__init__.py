"""Packages that the server and the client share, the trace tools, and the local mesh."""
