"""Watching a policy while it acts, with numpy alone: alarms, and what is done about them.

from safetrax.monitoring import Guard, Monitor
from safetrax.runtime import Runtime

guard = Guard(Runtime("policy.onnx"), Monitor.load("policy.monitor"), fallback=Runtime("bc-safe.onnx"))
action = guard.act(observation)
guard.observe(reward, cost)
print(guard.interventions)
"""

from __future__ import annotations

from safetrax.monitoring.guard import Guard
from safetrax.monitoring.interventions import Intervention
from safetrax.monitoring.monitor import Monitor, Verdict

__all__ = ["Guard", "Intervention", "Monitor", "Verdict"]
