"""What a model costs and how right it is: size, latency, accuracy."""
