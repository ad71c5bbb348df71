"""How fast Rollcall is on this machine, beside the machine's own limits and a well-known peer.

Run `python -m tests.benchmarks`; `docs/performance.md` says what the figures mean.
"""
