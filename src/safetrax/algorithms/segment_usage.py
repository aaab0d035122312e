"""What a training uses of labelled segments, in words and numbers."""

from __future__ import annotations

from safetrax.algorithms.base import LITTLE, Usage
from safetrax.data.segments import DESIRABLE, UNDESIRABLE, Windows

_CLASSES = {"desirable": DESIRABLE, "undesirable": UNDESIRABLE}
_PURPOSES = {"desirable": "imitate", "undesirable": "keep away from"}
_REMEDIES = {
    "desirable": "raise the limit or the share top",
    "undesirable": "lower the limit or raise the share bottom",
}


def said_by(windows: Windows) -> str:
    """What labels the segments."""
    return "by the labels" if windows.cost_limit is None else f"at the cost limit {windows.cost_limit:g}"


def segment_usage(windows: Windows, num_transitions: int, classes: str, *, clones_all: bool) -> Usage:
    """How many segments there are of each class that TraC sees, and the share of the log's steps that lie in them.

    Args:
        windows: all of them.
        num_transitions: N.
        classes: "both", "desirable" or "undesirable".
        clones_all: whether the first stage uses the unlabelled ones, too.
    """
    used = _CLASSES if classes == "both" else {classes: _CLASSES[classes]}
    counts = {name: windows.labels.count(label) for name, label in used.items()}
    share = windows.covered(num_transitions, *used.values())
    marked = windows.cost_limit is None
    short = (
        f"{windows.left_out:,} of {windows.left_out + windows.episode_windows.size:,} episodes are shorter than a "
        f"segment of {windows.length} steps, and segment_ratio=whole uses them too"
    )
    label_some = short if windows.left_out else "label some (--labels)"
    warnings = [
        f"{said_by(windows)} no segment is {name}, so that TraC has nothing to {_PURPOSES[name]}; "
        f"{label_some if marked else _REMEDIES[name]}."
        for name, count in counts.items()
        if count == 0
    ]
    if share < LITTLE and not (marked and clones_all):
        remedy = "pretrain_data=all clones the others too" if marked else "raise the share top or bottom"
        remedy = short if windows.left_out else remedy
        warnings.append(f"{said_by(windows)} TraC uses {share:.1%} of the log's steps; {remedy}.")
    shorter = "up to " if (windows.episode_steps < windows.length).any() else ""
    counts["unused"] = windows.starts.size - sum(counts.values())
    unit = f"segments of {shorter}{windows.length} steps"
    return Usage(windows.cost_limit, unit, counts, share, tuple(warnings))
