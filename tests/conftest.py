"""How properties are searched: a bounded number of examples, never a deadline, and in CI always the same ones."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile("local", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("local"), derandomize=True, print_blob=True)
settings.register_profile("long", settings.get_profile("local"), max_examples=3_000)
settings.load_profile(os.environ.get("ROLLCALL_HYPOTHESIS", "ci" if os.environ.get("CI") else "local"))
