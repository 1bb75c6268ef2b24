"""One hop of the chain: answers the four methods, or relays them to the next hop."""
