"""The ablations of the papers by name: one setting of one algorithm, and the values that were compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from safetrax.files import exact


@dataclass(frozen=True)
class Ablation:
    """What is varied.

    Attributes:
        algorithm: its word, as in `safetrax.algorithms.registry`.
        variants: settings by label. The label stands behind the algorithm's name in results, as in "TraC (eta 0.5)".
        source: which table or figure.
        tasks: on which the paper shows it.
    """

    algorithm: str
    variants: Mapping[str, Mapping[str, Any]]
    source: str
    tasks: tuple[str, ...]


def _values(setting: str, symbol: str, *values: float) -> dict[str, dict[str, Any]]:
    return {f"{symbol} {exact(value)}": {setting: value} for value in values}


_TWO = ("AntCircle", "mediummean")
_THREE = ("AntCircle", "CarPush1", "mediummean")
_BULLET = ("AntCircle", "AntRun", "BallCircle", "BallRun", "CarCircle", "CarRun", "DroneCircle", "DroneRun")
_LSPC = ("CarRun", "BallCircle")

ABLATIONS: Mapping[str, Ablation] = {
    "trac-top": Ablation("trac", _values("top", "x", 0.25, 0.5, 0.75, 1.0), "TraC, Figure 4", _TWO),
    "trac-bottom": Ablation("trac", _values("bottom", "y", 0.0, 0.25, 0.5), "TraC, Figure 5", _TWO),
    "trac-weight-floor": Ablation(
        "trac", _values("weight_floor", "delta", 0.0, 0.4, 0.7, 1.0), "TraC, Table 2", _THREE
    ),
    "trac-eta": Ablation("trac", _values("eta", "eta", 0.25, 0.5, 1.0, 2.0), "TraC, Table 2", _THREE),
    "trac-temperature": Ablation(
        "trac", _values("temperature", "alpha", 0.05, 0.1, 0.2, 0.5), "TraC, Figure 12", _THREE
    ),
    "trac-one-sided": Ablation(
        "trac",
        {
            "both": {"classes": "both"},
            "desirable only": {"classes": "desirable"},
            "undesirable only": {"classes": "undesirable"},
        },
        "TraC, Figure 6",
        _THREE,
    ),
    "trac-pretraining": Ablation(
        "trac", {"pretrained": {}, "not pretrained": {"pretrain_updates": 0}}, "TraC, Table 3", _BULLET
    ),
    "trac-reference": Ablation(
        "trac",
        {"pretrained": {"reference": "pretrained"}, "uniform": {"reference": "uniform"}},
        "TraC, Table 6",
        _BULLET,
    ),
    "lspc-lambda": Ablation(
        "lspc", _values("cost_temperature", "lambda", 1.0, 2.0, 4.0), "LSPC, Figures 6 and 7", _LSPC
    ),
    "lspc-xi": Ablation("lspc", _values("expectile", "xi", 0.5, 0.7), "LSPC, Figures 7 and 8", _LSPC),
    "lspc-epsilon": Ablation(
        "lspc", _values("restriction", "epsilon", 0.25, 0.6, 1.0), "LSPC, Figure 4", ("easysparse",)
    ),
    "lspc-converse": Ablation(
        "lspc",
        {"LSPC": {"converse": False}, "converse": {"converse": True}},
        "LSPC, Figure 5",
        ("HalfCheetahVelocity",),
    ),
    "fisor-constraint": Ablation(
        "fisor",
        {"feasibility": {"constraint": "feasibility"}, "cost": {"constraint": "cost"}},
        "FISOR, two constraints of its code",
        _BULLET,
    ),
    "cpq-reading": Ablation(
        "cpq", {"paper": {"osrl_compat": False}, "OSRL": {"osrl_compat": True}}, "CPQ, paper and OSRL's code", _BULLET
    ),
    "coptidice-reading": Ablation(
        "coptidice",
        {"paper": {"osrl_compat": False}, "OSRL": {"osrl_compat": True}},
        "COptiDICE, paper and OSRL's code",
        _BULLET,
    ),
    "bars-anchor": Ablation(
        "bars",
        {"anchored": {"anchor_after": 0.5}, "no anchor": {"anchor_after": 1.0}},
        "BARS, Table 4",
        ("SwimmerVelocity", "AntVelocity", "HalfCheetahVelocity"),
    ),
    "bars-limit": Ablation(
        "bars",
        {"discounted": {"raw_limit": False}, "raw": {"raw_limit": True}},
        "BARS, two readings of its limit",
        ("CarGoal2",),
    ),
    "bars-unsafe-loss": Ablation(
        "bars",
        {name: {"unsafe_loss": name} for name in ("escape", "regression", "literal")},
        "BARS, three readings of Eq. 10",
        ("CarGoal2",),
    ),
    "dspo-backbone": Ablation(
        "dspo", {name: {"backbone": name} for name in ("transformer", "mlp")}, "DSPO, Figure 4", ("SwimmerVelocity",)
    ),
    "dspo-return-agnostic": Ablation(
        "dspo",
        {name: {"return_agnostic": name} for name in ("vclub", "none", "gradient-penalty")},
        "DSPO, Table 2",
        ("hardsparse",),
    ),
}
