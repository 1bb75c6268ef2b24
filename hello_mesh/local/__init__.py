"""A mesh on one host: real servers and real Envoys as processes, and the test that calls through them."""
