"""The contract as scenarios."""
