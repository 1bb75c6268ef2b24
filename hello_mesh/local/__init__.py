"""A mesh on one machine: real servers and real Envoys as processes, and the test that calls through them."""
