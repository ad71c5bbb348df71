"""Neighbours that misbehave in every way we know, each a process of its own, and the tests that walk through all of it."""
