"""Algorithms. The classes are imported when first used; `registry` has the list."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from safetrax.algorithms.registry import HOMES

if TYPE_CHECKING:  # what a type checker cannot read off the registry
    from safetrax.algorithms.b2r import B2R as B2R
    from safetrax.algorithms.bars import BARS as BARS
    from safetrax.algorithms.base import Algorithm as Algorithm
    from safetrax.algorithms.base import Spec as Spec
    from safetrax.algorithms.base import Stage as Stage
    from safetrax.algorithms.bc import BC as BC
    from safetrax.algorithms.bcq_lag import BCQLag as BCQLag
    from safetrax.algorithms.bear_lag import BEARLag as BEARLag
    from safetrax.algorithms.carl import CARL as CARL
    from safetrax.algorithms.cdt import CDT as CDT
    from safetrax.algorithms.cdt_v import CDTV as CDTV
    from safetrax.algorithms.coptidice import COptiDICE as COptiDICE
    from safetrax.algorithms.cpq import CPQ as CPQ
    from safetrax.algorithms.cql import CQL as CQL
    from safetrax.algorithms.dspo import DSPO as DSPO
    from safetrax.algorithms.dwbc import DWBC as DWBC
    from safetrax.algorithms.fisor import FISOR as FISOR
    from safetrax.algorithms.iql import IQL as IQL
    from safetrax.algorithms.lspc import LSPC as LSPC
    from safetrax.algorithms.o3srl import O3SRL as O3SRL
    from safetrax.algorithms.rgm import RGM as RGM
    from safetrax.algorithms.td3_bc import TD3BC as TD3BC
    from safetrax.algorithms.trac import TraC as TraC
    from safetrax.algorithms.trac_conditioned import TraCConditioned as TraCConditioned

_HOMES = {**HOMES, **{name: f"safetrax.algorithms.base:{name}" for name in ("Algorithm", "Spec", "Stage")}}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'safetrax.algorithms' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    globals()[name] = value = getattr(importlib.import_module(module), attribute)
    return value
