"""Generated from proto/landing.proto by scripts/generate. Never edited by hand."""
