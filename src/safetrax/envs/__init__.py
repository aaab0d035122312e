"""Environments: a task's name in, a seedable gymnasium environment out.

Importing this package imports no simulator and no jax: the worker processes depend on that for their start-up time.
"""

from __future__ import annotations

from safetrax.envs.make import make_env
from safetrax.envs.suites import suite_status

__all__ = ["make_env", "suite_status"]
