"""Settings are checked against their annotations: kind, range, and that numbers are finite."""

from __future__ import annotations

import math
import typing
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Literal

import numpy as np
import pytest
from annotated_types import Ge, Gt, Le, Lt, MinLen

from safetrax.algorithms.registry import classes
from safetrax.errors import ConfigError
from safetrax.settings import (
    BelowOne,
    Count,
    Fraction,
    NonNegative,
    OpenFraction,
    Positive,
    Rate,
    Whole,
    require_ranges,
)


@dataclass(frozen=True)
class Settings:
    positive: Positive = 1.0
    non_negative: NonNegative = 0.0
    fraction: Fraction = 1
    open_fraction: OpenFraction = 0.5
    rate: Rate = 1.0
    below_one: BelowOne = 0.0
    count: Count = 1
    whole: Whole = 0
    plain: float = -3.5
    least: Annotated[float, Ge(1)] = 1.0
    less: Annotated[float, Lt(2)] = -20.0
    most: Annotated[float, Le(2)] = 2.0
    greater: Annotated[float, Gt(-1)] = 0.0
    layers: Annotated[tuple[Count, ...], MinLen(1)] = (4, 4)
    gains: tuple[NonNegative, NonNegative] = (0.0, 1)
    table: dict[str, Whole] = field(default_factory=lambda: {"a": 0})
    span: Positive | Literal["horizon"] | None = None
    share: Rate | None = 0.5
    word: Literal["a", "b"] = "a"
    switch: bool | None = False
    text: str = "x"

    def __post_init__(self) -> None:
        require_ranges(self)


REFUSED = [
    ("positive", 0, "positive is 0, but must be positive."),
    ("positive", -math.inf, "must be finite."),
    ("positive", math.inf, "must be finite."),
    ("positive", math.nan, "positive is nan, but must be finite."),
    ("positive", "1", "positive is 1, but must be positive."),
    ("positive", 10**400, "must have less than 309 digits."),
    ("non_negative", -0.1, "must not be negative."),
    ("fraction", 2, "fraction is 2, but must lie in [0, 1]."),
    ("fraction", -0.1, "must lie in [0, 1]."),
    ("fraction", True, "must lie in [0, 1]."),
    ("open_fraction", 0, "must lie in (0, 1)."),
    ("open_fraction", 1, "must lie in (0, 1)."),
    ("rate", 0.0, "must lie in (0, 1]."),
    ("rate", np.float32(1.5), "must lie in (0, 1]."),
    ("below_one", 1.0, "must lie in [0, 1)."),
    ("count", 0, "count is 0, but must be positive."),
    ("count", 2.0, "count is 2.0, but must be a whole number."),
    ("count", True, "must be a whole number."),
    ("whole", -1, "must not be negative."),
    ("whole", None, "must be a whole number."),
    ("plain", "much", "plain is much, but must be a number."),
    ("plain", math.nan, "must be finite."),
    ("least", 0.5, "must be at least 1."),
    ("less", 2.0, "must be less than 2."),
    ("most", 2.5, "must be at most 2."),
    ("greater", -1.0, "must be greater than -1."),
    ("layers", (), "must have 1 or more entries."),
    ("layers", (4, 0), "layers[1] is 0, but must be positive."),
    ("layers", [4], "layers is [4], but must be a tuple."),
    ("table", {"a": 1, "b": -1}, "table.b is -1, but must not be negative."),
    ("table", [], "table is [], but must be a table."),
    ("gains", (1.0,), "must have 2 entries."),
    ("gains", (1.0, -1.0), "gains[1] is -1.0, but must not be negative."),
    ("span", 0.0, "span is 0.0, but must be positive, horizon or none."),
    ("span", "steps", "must be positive, horizon or none."),
    ("share", 0, "must lie in (0, 1] or none."),
    ("word", "c", "word is c, but must be one of a, b."),
    ("switch", "on", "must be of type bool or none."),
    ("text", 3, "must be of type str."),
]


@pytest.mark.parametrize(("name", "value", "sentence"), REFUSED)
def test_a_value_that_does_not_fit_is_told_with_its_rule(name, value, sentence):
    settings = Settings()
    object.__setattr__(settings, name, value)
    with pytest.raises(ConfigError) as caught:
        require_ranges(settings)
    assert str(caught.value).startswith(name)
    assert str(caught.value).endswith(sentence)


def test_ends_of_ranges_and_numpy_numbers_fit():
    Settings()
    replace(Settings(), positive=np.float64(1e-9), count=np.int64(3), fraction=np.float32(0.0), span="horizon")
    replace(Settings(), span=3, share=None, layers=(1,), switch=None, below_one=np.nextafter(1, 0))


@pytest.mark.parametrize("name", classes())
def test_no_algorithm_takes_a_number_that_is_not_finite_or_a_count_that_is_not_whole(name):
    hints = typing.get_type_hints(classes()[name])
    for entry in fields(classes()[name]):
        bad = {float: (math.nan, math.inf), int: (1.5, -1)}.get(hints[entry.name], ())
        for value in bad:
            algorithm = classes()[name]()
            object.__setattr__(algorithm, entry.name, value)
            with pytest.raises(ConfigError, match=entry.name):
                require_ranges(algorithm)
