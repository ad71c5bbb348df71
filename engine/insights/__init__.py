"""What the engine can say about its own input: read `quality`."""
