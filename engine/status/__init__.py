"""Synchronous status queries: one module a provider, behind the seam in `base`."""
