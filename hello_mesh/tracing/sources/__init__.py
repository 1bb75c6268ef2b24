"""Sources of spans."""
