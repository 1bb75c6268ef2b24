"""The local requestor: calls the four patterns and shows the answer and the way of each call."""
