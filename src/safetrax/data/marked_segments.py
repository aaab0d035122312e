"""Segments whose labels are those of their episodes: what somebody has marked stands in for costs and returns."""

from __future__ import annotations

import numpy as np

from safetrax.data.labels import SAFE, UNKNOWN, UNSAFE
from safetrax.data.segments import DESIRABLE, UNDESIRABLE, UNUSED, Labels, Ratio, Windows, cut_windows
from safetrax.data.trajectories import Trajectories

_LABELS = {SAFE: DESIRABLE, UNSAFE: UNDESIRABLE, UNKNOWN: UNUSED}


def mark_windows(trajectories: Trajectories, *, ratio: Ratio, include_short: bool = False) -> Windows:
    """Every window, with the label of its episode and the weight 1; those of episodes that nobody marked are unused.

    Args:
        trajectories: N transitions; costs are not looked at.
        ratio: see `label_windows`, which cuts the same windows.
        include_short: alike.
    """
    eligible, cut = cut_windows(trajectories, ratio, include_short=include_short)
    marks = trajectories.marks[eligible][cut["episode"]]
    label = np.full(len(marks), UNUSED, np.int8)
    for mark, kind in _LABELS.items():
        label[marks == mark] = kind
    unknown = np.full(len(marks), np.nan)
    labels = Labels(label, (label != UNUSED).astype(np.float32), marks == SAFE)
    return Windows(cost_limit=None, cost=unknown, value=unknown, labels=labels, **cut)
