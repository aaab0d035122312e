"""The flags of `safetrax train` that every algorithm shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from safetrax.cli.filters import FILTERS_FLAG


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """The same for every algorithm."""

    data: Annotated[str, tyro.conf.arg(metavar="PATH|TASK|demo")]
    """A data set (HDF5, NPZ, Parquet, CSV, Minari), a task whose file was downloaded, or demo, which ships along."""
    task: Annotated[
        str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="(default: as the data's file name says)")
    ] = None
    """Benchmark task: gives the presets, the cost limits, and the simulator to evaluate in."""
    cost_limits: Annotated[
        tuple[float, ...], tyro.conf.arg(metavar="COST [COST ...]", help_behavior_hint="(default: the task's)")
    ] = ()
    """Limits on the cost of an episode; one policy is trained for each, and for each seed."""
    filters: Annotated[tuple[str, ...], FILTERS_FLAG] = ()
    """Applied to the data first, in this order; safetrax inspect lists them (--help) and shows their effect."""
    seeds: Annotated[tuple[int, ...], tyro.conf.arg(metavar="INT [INT ...]")] = (0,)
    """Training seeds."""
    out: Annotated[
        str | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: runs/<task>-<algorithm>)")
    ] = None
    """New folder for settings, checkpoints, metrics, policies and evaluation episodes."""
    start_from: Annotated[
        str | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: fresh networks)")
    ] = None
    """Begin with the networks of this finished run of the same algorithm, sizes, limits and seeds."""
    evaluate: bool = True
    """Evaluate the trained policies in the simulator, if it is installed."""
    evaluation_episodes: int = 20
    """Episodes per policy and evaluation."""
    evaluate_every: int = 0
    """Updates between evaluations while training; 0: only at the end. Never used to choose a checkpoint."""
    log_every: int = 100
    """Updates between rows of metrics.csv."""
    checkpoint_seconds: float = 60.0
    """Seconds between checkpoints."""
    precision: Literal["float32", "tensorfloat32"] = "float32"
    """Of matrix products on a GPU; tensorfloat32 is faster there and coarser."""
    log_to: Annotated[
        tuple[Literal["tensorboard", "wandb"], ...],
        tyro.conf.arg(metavar="{tensorboard,wandb} ...", help_behavior_hint="(default: nowhere else)"),
    ] = ()
    """Further places for the metrics."""


@dataclass(frozen=True, kw_only=True)
class ResumeOptions:
    """Everything else is as it was when the run was started."""

    resume: Annotated[str, tyro.conf.arg(metavar="FOLDER")]
    """Folder of the run to go on with."""
    data: Annotated[
        str | None, tyro.conf.arg(metavar="PATH|TASK|demo", help_behavior_hint="(default: where it was)")
    ] = None
    """Where the data set is now, if it was moved."""
    evaluate: bool = True
    """Evaluate the trained policies in the simulator, if it is installed."""
