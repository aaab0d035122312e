"""Filters: whole episodes in, whole episodes out, to be combined; each leaves a record of what it did.

data = apply_filters(load("demo"), [Density(0.5), Outliers(0.05, cost_limit=20)])
data.info["filters"]
"""

from safetrax.data.filters.base import Filter, Selection, apply_filters, filter_steps
from safetrax.data.filters.corruption import Noise, Outliers
from safetrax.data.filters.definitions import Relabel
from safetrax.data.filters.density import Density, Thin
from safetrax.data.filters.dsrl import dsrl_preprocess
from safetrax.data.filters.frontier import Frontier, fit_frontier, pareto_set
from safetrax.data.filters.labelling import Demonstrations, LabelsFromCosts
from safetrax.data.filters.registry import FILTERS, filters_of
from safetrax.data.filters.removals import Epsilon, Inpaint
from safetrax.data.filters.repairs import Drop, Fill, Spikes, Split, Stuck
from safetrax.data.filters.resampling import Resample
from safetrax.data.filters.selections import Boundary, Labelled, QualityMix, Risky, Safe, TopK
from safetrax.data.filters.words import filter_lines, parse_filters

__all__ = [
    "FILTERS",
    "Boundary",
    "Demonstrations",
    "Density",
    "Drop",
    "Epsilon",
    "Fill",
    "Filter",
    "Frontier",
    "Inpaint",
    "Labelled",
    "LabelsFromCosts",
    "Noise",
    "Outliers",
    "QualityMix",
    "Relabel",
    "Resample",
    "Risky",
    "Safe",
    "Selection",
    "Spikes",
    "Split",
    "Stuck",
    "Thin",
    "TopK",
    "apply_filters",
    "dsrl_preprocess",
    "filter_lines",
    "filter_steps",
    "filters_of",
    "fit_frontier",
    "pareto_set",
    "parse_filters",
]
