"""All of DSRL's filters in one call."""

from __future__ import annotations

from collections.abc import Sequence

from safetrax.data.filters.base import DSRL_SEED, Filter, apply_filters
from safetrax.data.filters.corruption import Noise, Outliers
from safetrax.data.filters.density import Density
from safetrax.data.filters.removals import Epsilon, Inpaint
from safetrax.data.trajectories import Trajectories
from safetrax.errors import ConfigError


def dsrl_preprocess(
    data: Trajectories,
    *,
    density: float = 1.0,
    outliers_percent: float | None = None,
    inpaint_ranges: Sequence[tuple[float, float, float, float]] | None = None,
    epsilon: float | None = None,
    noise_scale: float | None = None,
    cost_limit: float | None = None,
    seed: int = DSRL_SEED,
) -> Trajectories:
    """DSRL's `pre_process_data`, with its argument names: its filters in its order.

    The order is density, outliers, inpainting (outliers are spared), epsilon, noise; what is not given is left out.

    Args:
        data: whole episodes of a task of the benchmark.
        density: which of the task's grids `Density` uses; 1 for none.
        outliers_percent: share of the episodes that become `Outliers`, in (0, 1].
        inpaint_ranges: rectangles that `Inpaint` cuts out.
        epsilon: of `Epsilon`.
        noise_scale: of `Noise`.
        cost_limit: DSRL's `target_cost`, needed for outliers and epsilon.
        seed: of every filter.

    Raises:
        ConfigError: a value is out of range, or the cost limit is missing.
        DataError: a filter would leave no episode, or needs a task and the data name none.
    """
    if cost_limit is None and not (outliers_percent is None and epsilon is None):
        raise ConfigError("outliers_percent and epsilon need a cost_limit; pass it.")
    limit = 0.0 if cost_limit is None else cost_limit
    filters: list[Filter] = []
    if density != 1:
        filters.append(Density(density, seed=seed))
    if outliers_percent is not None:
        filters.append(Outliers(outliers_percent, limit, seed=seed))
    if inpaint_ranges:
        filters.append(Inpaint(tuple(inpaint_ranges)))
    if epsilon is not None:
        filters.append(Epsilon(epsilon, limit))
    if noise_scale is not None:
        filters.append(Noise(noise_scale, seed=seed))
    return apply_filters(data, filters)
