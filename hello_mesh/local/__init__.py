"""The chain on one machine: the real servers as processes on free ports, called by the real client."""
