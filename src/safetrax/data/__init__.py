"""Everything before the first gradient: reading, checking and describing logged trajectories."""

from safetrax.catalogue import Task, get_task, tasks
from safetrax.data.formats.hdf5 import write_hdf5
from safetrax.data.formats.minari import to_minari
from safetrax.data.formats.npz import write_npz
from safetrax.data.formats.tables import from_pandas, to_pandas, write_parquet
from safetrax.data.loading import load
from safetrax.data.trajectories import Trajectories
from safetrax.data.validation import Finding, check, validate

__all__ = [
    "Finding",
    "Task",
    "Trajectories",
    "check",
    "from_pandas",
    "get_task",
    "load",
    "tasks",
    "to_minari",
    "to_pandas",
    "validate",
    "write_hdf5",
    "write_npz",
    "write_parquet",
]
