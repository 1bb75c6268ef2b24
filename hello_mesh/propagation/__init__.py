"""The core of the demo: the headers that a hop propagates, its hop report, and the verdict on the report."""
