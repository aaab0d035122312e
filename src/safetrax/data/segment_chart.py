"""The data set as TraC sees it: every segment by cost and return, labelled for each cost limit."""

from __future__ import annotations

from collections.abc import Sequence

from safetrax.charts.drawing import Chart, beside
from safetrax.charts.panels import segments
from safetrax.data.segments import DESIRABLE, UNDESIRABLE, UNUSED, Ratio, label_windows
from safetrax.data.trajectories import Trajectories
from safetrax.errors import ConfigError
from safetrax.files import exact

_KINDS = {DESIRABLE: "desirable", UNDESIRABLE: "undesirable", UNUSED: "unused"}


def segment_chart(
    trajectories: Trajectories,
    cost_limits: Sequence[float],
    *,
    ratio: Ratio = "whole",
    top: float = 0.5,
    bottom: float = 0.0,
    include_short: bool = False,
    before: Trajectories | None = None,
) -> Chart:
    """Figure 1 of the TraC paper (Gong et al., AAAI 2025, arXiv:2412.15429), one panel per limit.

    The cost of a segment is divided by the share of an episode that it is, so that the limit is the episode's. All
    segments are counted; of many, some are drawn.

    Args:
        trajectories: the data set.
        cost_limits: one panel each.
        ratio: length of a segment, see `safetrax.data.segments.label_windows`.
        top: share of the safe segments that is desirable.
        bottom: share of the safe segments that is undesirable.
        include_short: also use episodes shorter than a segment.
        before: the data set before it was filtered, drawn faintly behind: what stays visible was removed or moved.

    Raises:
        ConfigError: no limit is given.
    """
    if not cost_limits:
        raise ConfigError("the scatter needs at least one cost limit.")
    panels = []
    for limit in cost_limits:
        windows, *earlier = (
            label_windows(data, limit, ratio=ratio, top=top, bottom=bottom, include_short=include_short)
            for data in (trajectories, before)
            if data is not None
        )
        panels.append(
            segments(
                windows.cost,
                windows.value,
                windows.labels.label,
                limit,
                kinds=_KINDS,
                earlier=(earlier[0].cost, earlier[0].value) if earlier else None,
                unit="episode" if (trajectories.lengths <= windows.length).all() else "segment",
                title=f"cost limit {exact(limit)}",
            )
        )
    return beside(panels, own_legends=True)
