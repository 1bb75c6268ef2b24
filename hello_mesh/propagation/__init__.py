"""What the demo is about: which headers a hop propagates, what it reports, and the verdict on that."""
