"""All filters by name, and from records back to filters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from safetrax.data.filters.base import Filter
from safetrax.data.filters.corruption import Noise, Outliers
from safetrax.data.filters.definitions import Relabel
from safetrax.data.filters.density import Density, Thin
from safetrax.data.filters.frontier import Frontier
from safetrax.data.filters.labelling import Demonstrations, LabelsFromCosts
from safetrax.data.filters.removals import Epsilon, Inpaint
from safetrax.data.filters.repairs import Drop, Fill, Spikes, Split, Stuck
from safetrax.data.filters.resampling import Resample
from safetrax.data.filters.selections import Boundary, Labelled, QualityMix, Risky, Safe, TopK
from safetrax.errors import ConfigError
from safetrax.settings import require_types

FILTERS: dict[str, type[Filter]] = {
    kind.name: kind
    for kind in (
        *(Density, Outliers, Inpaint, Epsilon, Noise),  # in DSRL's order
        *(Safe, Risky, Boundary, Frontier, TopK, QualityMix, Thin),
        *(Labelled, Demonstrations, LabelsFromCosts),
        *(Spikes, Stuck, Fill, Split, Drop, Resample, Relabel),
    )
}
"""Every filter by the name that it has on the command line and in records."""


def filters_of(records: Iterable[Mapping[str, Any]]) -> tuple[Filter, ...]:
    """The filters that a data set's `info["filters"]` tells of, to apply them again.

    Raises:
        ConfigError: a filter or a setting is unknown, or out of range.
    """
    found = []
    for record in records:
        name, settings = str(record.get("name")), record.get("settings", {})
        if name not in FILTERS:
            raise ConfigError(f"the data were filtered by {name!r}, which this version does not have.")
        if not isinstance(settings, Mapping):
            raise ConfigError(f"the data were filtered by {name} with {settings!r:.200}, which are no settings.")
        values = {key: _tuples(value) for key, value in settings.items()}
        require_types(FILTERS[name], values)
        try:
            found.append(FILTERS[name](**values))
        except TypeError as error:
            raise ConfigError(f"this version's filter {name} has other settings: {error}.") from error
    return tuple(found)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
