"""Everything before the first gradient: reading, checking and describing logged trajectories."""

from safetrax.data.catalogue import Task, get_task, tasks
from safetrax.data.readers import load, write_hdf5
from safetrax.data.trajectories import Trajectories
from safetrax.data.validation import Finding, check, validate

__all__ = ["Finding", "Task", "Trajectories", "check", "get_task", "load", "tasks", "validate", "write_hdf5"]
