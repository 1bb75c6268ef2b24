"""Small things that every other room uses: errors, text, logging, shared options."""
