"""What the demo is made of besides its server and its client."""
