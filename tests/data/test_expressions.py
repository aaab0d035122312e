"""Rewards and costs by expression: numbers worked out by hand, gaps, names, and nothing that is run as code."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from test_gaps import log

from safetrax.data import Trajectories
from safetrax.data.expressions import Expression
from safetrax.data.filters import Relabel, filters_of, parse_filters
from safetrax.errors import ConfigError, DataError

NAN = np.nan
NAMES = {"observation_names": ["temperature", "flow rate"], "action_names": ["valve"]}


def plant(**changes: Any) -> Trajectories:
    usual: dict[str, Any] = {"actions": [[0], [0.5], [1], [-1]], "rewards": [1, 2, 3, 4], "info": NAMES}
    return log([20, 21, 25, 30], [1, 2, 3, 0], lengths=[2, 2], **(usual | changes))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("-abs(temperature - 21)", [-1, 0, -4, -9]),
        ("temperature > 24", [0, 0, 1, 1]),
        ("20 < temperature <= 25", [0, 1, 1, 0]),
        ("temperature == 21 or not o1", [0, 1, 0, 1]),
        ("temperature > 20 and valve >= 0.5", [0, 1, 1, 0]),
        ("max(temperature - 24, 0) ** 2", [0, 0, 1, 36]),
        ("min(o0, 25, 10 * o1 + 5)", [15, 21, 25, 5]),
        ("clip(valve, 0, 0.75)", [0, 0.5, 0.75, 0]),
        ("where(o1 != 0, temperature / o1, -1)", None),  # divides by 0 where it is not chosen
        ("sqrt(4) + exp(0) * reward % 3 - +2 // 1 + log(1)", [1, 2, 0, 1]),
        ("cost + reward", [2, 3, 4, 5]),
        ("7", [7, 7, 7, 7]),
        (" a0 ", [0, 0.5, 1, -1]),
    ],
)
def test_expressions_are_computed_step_by_step(text, values):
    expected = [20, 10.5, 25 / 3, -1] if values is None else values
    np.testing.assert_allclose(Expression(text)(plant()), expected, rtol=1e-12)


def test_a_number_is_the_one_that_was_logged():
    data = log([24.1, 24.2], [0.1, 0.3], lengths=[2])
    np.testing.assert_array_equal(Expression("o0 > 24.1")(data), [0, 1])
    np.testing.assert_array_equal(Expression("o0 <= 24.1")(data), [1, 0])
    np.testing.assert_array_equal(Expression("o1 == 0.1")(data), [1, 0])


def test_what_names_a_gap_is_one():
    data = log([20, NAN, 30], lengths=[3])
    for text in ("o0 > 24", "not o0", "where(o0 > 0, 1, 0)", "max(o0, 0)", "o0 != o0"):
        np.testing.assert_array_equal(np.isnan(Expression(text)(data)), [False, True, False])
    np.testing.assert_array_equal(Expression("reward")(data), [0, 1, 2])


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "o0 +",
            "o0 o1",
            "(" * 300,
            "x" * 2000,
            "-" * 990 + "1",
            "o0\0",
            "reward = 1",
            "lambda: 1",
            "yield",
        ),
        *("o0.real", "o0[0]", "[1][0]", "().__class__", "__import__('os')", "open('x')", "'text'", "f'{o0}'", "1j"),
        *(
            "abs()",
            "abs(1, 2)",
            "max(1)",
            "abs(x=1)",
            "max(*o0)",
            "where(1, 2)",
            "abs(1)(2)",
            "True",
            "None",
            "1e999",
        ),
        *("9" * 400, "(o0 := 1)", "[o0 for o0 in o1]", "o0 if o1 else 1", "o0 in o1", "o0 is o1", "~o0", "o0 @ o1"),
        *("o0 << 1", "{1: 2}", "await o0", "abs", "exec('1')", "eval(1)", "print(1)", "getattr(o0, 1)"),
    ],
)
def test_nothing_else_is_an_expression(text):
    with pytest.raises((ConfigError, DataError)) as error:
        Relabel(reward=text)(plant())
    assert "\n" not in str(error.value)
    if text != "abs":  # a column may have that name
        assert isinstance(error.value, ConfigError)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("temprature > 24", "names temprature, which the log does not have; did you mean temperature?"),
        (
            "heat * 2",
            "names heat, which the log does not have; the log has temperature, flow rate, valve, reward, cost, o0",
        ),
        ("1 / (o0 - 21)", r"is inf in row 1, where o0 is 21 \(so in 1 rows\)"),
        ("sqrt(valve)", "is nan in row 3, where valve is -1"),
        ("exp(o0 * 1000)", "is inf in row 0, where o0 is 20"),
    ],
)
def test_names_and_numbers_that_do_not_work(text, said):
    with pytest.raises(DataError, match=said):
        Relabel(cost=text)(plant())


def test_a_name_of_two_columns_is_refused_and_places_are_not():
    data = plant(info={"observation_names": ["x", "reward"], "action_names": ["x"]})
    for text in ("x", "reward"):
        with pytest.raises(DataError, match=f"names {text}, as two columns are called; write o0"):
            Expression(text)(data)
    np.testing.assert_array_equal(Expression("o0 - a0")(data), [20, 20.5, 24, 31])
    own = plant(info={"observation_names": ["o1", "\u00b5"], "action_names": ["valve"]})
    np.testing.assert_array_equal(Expression("o1")(own), [20, 21, 25, 30])  # its own name comes first
    np.testing.assert_array_equal(Expression("\u00b5")(own), [1, 2, 3, 0])  # which Python spells otherwise
    with pytest.raises(DataError, match=r"did you mean o0\?"):
        Expression("o3")(log([0], lengths=[1]))


def test_relabel_replaces_rewards_and_costs_and_says_so():
    data = plant()
    new = Relabel(reward="-cost * temperature", cost="reward > 2")(data)  # both of what there was before
    np.testing.assert_array_equal(new.rewards, [-20, -21, -25, -30])
    np.testing.assert_array_equal(new.costs, [0, 0, 1, 1])
    assert new.fingerprint() != data.fingerprint()
    (record,) = json.loads(json.dumps(new.info["filters"]))
    assert record["settings"] == {"reward": "-cost * temperature", "cost": "reward > 2"}
    assert filters_of([record]) == (Relabel(reward="-cost * temperature", cost="reward > 2"),)
    np.testing.assert_array_equal(Relabel(cost="o0 > 24")(plant(costs=None)).costs, [0, 0, 1, 1])
    np.testing.assert_array_equal(Relabel(reward="o1")(plant(rewards=[NAN] * 4)).rewards, [1, 2, 3, 0])


def lost(columns):
    return np.maximum(columns["temperature"] - 24, 0)


def test_a_rule_may_be_a_function():
    new = Relabel(cost=lost)(plant())
    np.testing.assert_array_equal(new.costs, [0, 0, 1, 6])
    (record,) = json.loads(json.dumps(new.info["filters"]))
    assert record["settings"]["cost"] == f"function {__name__}.lost"
    with pytest.raises(ConfigError, match=r"was computed by the function .*lost; apply it in Python"):
        filters_of([record])
    for wrong, said in ((lambda _: [1, 2], "computes 2 values for 4 steps"), (lambda _: "x", "has dtype")):
        with pytest.raises(DataError, match=said):
            Relabel(cost=wrong)(plant())


@pytest.mark.parametrize(
    ("word", "entry"),
    [
        ("relabel:-abs(t - 21)", Relabel("-abs(t - 21)")),
        ("relabel:reward=max(a, b), cost = where(a == 3, 1, 0)", Relabel("max(a, b)", "where(a == 3, 1, 0)")),
        ("relabel:cost=a >= 3", Relabel(cost="a >= 3")),
        ("relabel:a==3,cost=b<=2", Relabel("a==3", "b<=2")),
    ],
)
def test_a_word_holds_expressions(word, entry):
    (found,) = parse_filters([word])
    assert found == entry
    assert parse_filters([str(found)]) == (entry,)


@pytest.mark.parametrize("word", ["relabel", "relabel:", "relabel:cost=", "relabel:reward=a,b", "relabel:a=3"])
def test_words_that_hold_none_are_one_sentence(word):
    with pytest.raises(ConfigError) as error:
        parse_filters([word])
    assert "\n" not in str(error.value)
