"""A hop of the chain: answers the four patterns, or relays them to the next hop."""
