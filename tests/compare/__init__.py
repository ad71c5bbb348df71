"""Compares two versions of Rollcall: the same random rules and traces through both, byte for byte.

`python -m tests.compare OLD_ROLLCALL NEW_ROLLCALL` is the command; nothing here imports the engine, except `player`, which is
run by the Python of the version that it plays. Read `__main__`, then `cases`.
"""
