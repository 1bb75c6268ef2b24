"""The requestor: calls LandingService and shows the responses and the path of each call."""
