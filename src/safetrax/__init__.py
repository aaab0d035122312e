"""SafeTraX: offline safe reinforcement learning, from a log of trajectories to an evaluated policy.

import safetrax as st

data = st.load("BallRun.hdf5")
run = st.train(st.TraC(), data, cost_limits=(10, 20, 40), seeds=(0, 1, 2))
print(st.evaluate(run.policies, "BallRun"))
run.policies[0].save("policy.safetensors")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from safetrax._version import __version__
from safetrax.algorithms.registry import HOMES

if TYPE_CHECKING:
    from safetrax.algorithms import *  # noqa: F403
    from safetrax.certification import Certificate
    from safetrax.certification.calibration import fit_monitor
    from safetrax.certification.certify import certify
    from safetrax.collection import Collection, collect
    from safetrax.data import (
        Trajectories,
        from_pandas,
        get_task,
        load,
        tasks,
        to_minari,
        to_pandas,
        validate,
        write_hdf5,
        write_npz,
        write_parquet,
    )
    from safetrax.data.download import download
    from safetrax.data.filters import apply_filters, dsrl_preprocess
    from safetrax.envs.make import make_env
    from safetrax.envs.reach_avoid.dataset import reach_avoid_data
    from safetrax.envs.reach_avoid.world import ReachAvoid
    from safetrax.errors import SafeTraXError
    from safetrax.evaluation.rollout import Evaluation, evaluate
    from safetrax.evaluation.video import record_gif
    from safetrax.exporting.export import export
    from safetrax.monitoring import Guard, Monitor
    from safetrax.policies import Policies, Policy
    from safetrax.progress import Reporter
    from safetrax.run_id import RunId
    from safetrax.training.train import Run, train

# Names are imported when first used, so that the command line answers at once and needs no JAX for its help.
_HOMES = {
    **dict.fromkeys(("Algorithm", *HOMES), "algorithms"),
    "Certificate": "certification",
    "Collection": "collection",
    "Evaluation": "evaluation.rollout",
    "Guard": "monitoring",
    "Monitor": "monitoring",
    "Policies": "policies",
    "Policy": "policies",
    "ReachAvoid": "envs.reach_avoid.world",
    "Reporter": "progress",
    "Run": "training.train",
    "RunId": "run_id",
    "SafeTraXError": "errors",
    "Trajectories": "data",
    "apply_filters": "data.filters",
    "certify": "certification.certify",
    "collect": "collection",
    "download": "data.download",
    "dsrl_preprocess": "data.filters",
    "evaluate": "evaluation.rollout",
    "export": "exporting.export",
    "fit_monitor": "certification.calibration",
    "from_pandas": "data",
    "get_task": "data",
    "load": "data",
    "make_env": "envs.make",
    "reach_avoid_data": "envs.reach_avoid.dataset",
    "record_gif": "evaluation.video",
    "tasks": "data",
    "to_minari": "data",
    "to_pandas": "data",
    "train": "training.train",
    "validate": "data",
    "write_hdf5": "data",
    "write_npz": "data",
    "write_parquet": "data",
}

__all__ = [
    "download",
    "load",
    "from_pandas",
    "validate",
    "apply_filters",
    "dsrl_preprocess",
    "write_hdf5",
    "write_npz",
    "write_parquet",
    "to_pandas",
    "to_minari",
    "Trajectories",
    "tasks",
    "get_task",
    "Algorithm",  # noqa: F405
    *HOMES,
    "train",
    "Run",
    "RunId",
    "Reporter",
    "Policy",
    "Policies",
    "make_env",
    "evaluate",
    "Evaluation",
    "record_gif",
    "certify",
    "Certificate",
    "fit_monitor",
    "Monitor",
    "Guard",
    "export",
    "collect",
    "Collection",
    "ReachAvoid",
    "reach_avoid_data",
    "SafeTraXError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'safetrax' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"safetrax.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
