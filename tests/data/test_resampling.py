"""A fixed step for logs with times: chosen rows, sums that stay, refusals; and times in every format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_gaps import log

from safetrax.data import Trajectories, from_pandas, load, to_minari, to_pandas, write_hdf5, write_npz, write_parquet
from safetrax.data.filters import Resample, Split
from safetrax.errors import ConfigError, DataError

NAN = np.nan
NOON = 1_714_564_800.0  # 2024-05-01T12:00:00Z
ISO = ["2024-05-01T12:00:00", "2024-05-01T12:00:01", "2024-05-01T12:00:03.500"]


def timed(times: list[float], lengths: list[int], **changes: Any) -> Trajectories:
    """A log whose observation is the number of the row, and whose rewards are powers of two."""
    rows = np.arange(len(times))
    usual = {"rewards": 2.0**rows, "costs": rows % 2, "actions": rows[:, None] / 100, "times": times}
    return log(rows.tolist(), lengths=lengths, **(usual | changes))


def test_rows_are_those_of_the_new_times_and_rewards_are_summed():
    data = timed(
        [10, 10.4, 11, 11.9, 12.1, 13, 0, 0.5], [6, 2], terminated=np.arange(8) == 5, truncated=np.arange(8) == 7
    )
    new = Resample("1s")(data)
    np.testing.assert_array_equal(
        new.observations[:, 0], [0, 2, 3, 5, 6]
    )  # of 12, the row at 11.9 is the last before
    np.testing.assert_array_equal(new.actions[:, 0], np.float32([0, 0.02, 0.03, 0.05, 0.06]))
    np.testing.assert_array_equal(new.rewards, [1 + 2, 4 + 8, 16, 32, 64 + 128])
    np.testing.assert_array_equal(new.costs, [1, 1, 0, 1, 1])
    np.testing.assert_array_equal(new.times, [10, 11, 12, 13, 0])
    np.testing.assert_array_equal(new.offsets, [0, 4, 5])
    np.testing.assert_array_equal(new.terminated, [False, False, False, True, False])
    np.testing.assert_array_equal(new.truncated, [False, False, False, False, True])
    np.testing.assert_array_equal(new.returns, data.returns)
    assert new.info["filters"][-1]["transitions"] == [8, 5]


def test_a_hundredth_of_a_step_is_forgiven_on_both_sides():
    data = timed([0, 0.995, 2.005, 2.985, 4.015], [5])
    new = Resample("1s")(data)
    # 0.995 is at 1, 2.005 at 2; 2.985 is in the interval of 2 and before 3; 4.015 is after 4
    np.testing.assert_array_equal(new.observations[:, 0], [0, 1, 2, 3, 3])
    np.testing.assert_array_equal(new.rewards, [1, 2, 4 + 8, 0, 16])


def test_next_observations_are_those_of_the_next_new_row_and_of_the_end():
    data = timed([0, 1, 2, 3], [4], next_observations=np.arange(1, 5)[:, None])
    np.testing.assert_array_equal(Resample("2s")(data).next_observations[:, 0], [2, 4])


def test_every_so_many_steps_needs_no_times():
    data = replace(timed([0.0] * 401, [401], rewards=np.ones(401)), times=None)
    new = Resample("200")(data)
    np.testing.assert_array_equal(new.observations[:, 0], [0, 200, 400])
    np.testing.assert_array_equal(new.rewards, [200, 200, 1])
    assert new.times is None


def test_gaps_stay_gaps():
    new = Resample("2s")(timed([0, 1, 2, 3], [4], rewards=[1, NAN, 1, 1], observations=[[0], [1], [NAN], [3]]))
    np.testing.assert_array_equal(new.rewards, [NAN, 2])
    np.testing.assert_array_equal(new.observations[:, 0], [0, NAN])


@settings(max_examples=50)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(1, 8), st.sampled_from(["0.5s", "1s", "700ms"])
)
def test_it_does_what_a_loop_over_intervals_does(waits, length, every):
    times = np.cumsum(waits) / 10
    lengths = [length] * (len(waits) // length) + [len(waits) % length] * (len(waits) % length > 0)
    data = timed(times.tolist(), lengths, rewards=np.arange(len(waits)))
    new = Resample(every, gap="4s")(data)
    step = {"0.5s": 0.5, "1s": 1.0, "700ms": 0.7}[every]
    rows, sums = [], []
    for first, last in zip(data.offsets, data.offsets[1:], strict=False):
        part = times[first:last] - times[first]
        for number in range(int(part[-1] / step + 1e-3) + 1):
            begin = number * step
            rows.append(first + np.flatnonzero(part <= begin + 1e-3)[-1])
            inside = (part >= begin - 1e-3) & (part < begin + step - 1e-3)
            sums.append(data.rewards[first:last][inside].sum())
    np.testing.assert_array_equal(new.observations[:, 0], rows)
    np.testing.assert_array_equal(new.rewards, sums)
    np.testing.assert_allclose(new.returns, data.returns)


@pytest.mark.parametrize(
    ("data", "word", "said"),
    [
        (
            replace(timed([0, 1], [2]), times=None),
            Resample("1s"),
            "needs times, and the log has none; call their column",
        ),
        (timed([0, NAN], [2]), Resample("1s"), r"that of row 1 \(episode 0\) is missing"),
        (timed([5, 6, 0, 0], [2, 2]), Resample("1s"), r"row 3 \(episode 1\) is not after the one before"),
        (
            timed([0, 1, 4, 6], [4]),
            Resample("1s"),
            r"allows 2 s .* in 1 places there are more, up to 3 s, first before row 2",
        ),
        (timed([0, 1, 4, 6], [4]), Resample("1s", gap="2500ms"), r"allows 2.5 s .*\(split:gap=2.5s before it\)"),
        (timed([0, 1], [2]), Resample("1ms", gap="1s"), "would make 1,001 rows of 2"),
        (replace(timed([0, 1], [2]), times=None), Split(gap="1s"), "needs times"),
    ],
)
def test_what_cannot_be_resampled_is_refused(data, word, said):
    with pytest.raises(DataError, match=said):
        word(data)


@pytest.mark.parametrize("wrong", ["", "0", "0s", "1 s", "-1s", "1y", "1.5", "s", "infs"])
def test_what_is_no_step_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"every is .*must be"):
        Resample(wrong)
    with pytest.raises(ConfigError, match="gap is"):
        Resample("1s", gap="3")


def test_split_cuts_where_time_is_lost():
    pieces = Split(gap="2s")(timed([0, 1, 3, 6, 7, 20], [6]))
    np.testing.assert_array_equal(pieces.offsets, [0, 3, 5])  # the last row alone is shorter than two steps
    np.testing.assert_array_equal(Resample("1s")(pieces).observations[:, 0], [0, 1, 1, 2, 3, 4])


# formats


def frame(time: Any, **more: Any) -> pd.DataFrame:
    return pd.DataFrame(
        {"observation_0": [0.0, 1, 2], "action_0": 0.5, "reward": 1.0, "episode": 7, **more, "time": time}
    )


@pytest.mark.parametrize(
    ("time", "begin"),
    [
        ([5, 6, 8.5], 5),
        (ISO, NOON),
        ([f"{text}+02:00" for text in ISO], NOON - 7200),
        (pd.to_datetime(ISO, format="ISO8601"), NOON),
        (pd.to_datetime(ISO, format="ISO8601").tz_localize("UTC"), NOON),
        (pd.to_timedelta([1, 2, 4.5], unit="s"), 1),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet", None])
def test_columns_of_times_are_seconds(time: Any, begin: float, suffix: str | None, tmp_path: Path):
    table = frame(time)
    if suffix == "csv":
        table.to_csv(tmp_path / "log.csv", index=False)
    elif suffix == "parquet":
        table.to_parquet(tmp_path / "log.parquet")
    data = from_pandas(table) if suffix is None else load(tmp_path / f"log.{suffix}")
    np.testing.assert_array_equal(data.times, [begin, begin + 1, begin + 3.5])
    assert "time" not in data.info.get("unused_columns", ())


def test_which_column_holds_the_times():
    numbers = frame(ISO).rename(columns={"time": "step"})
    np.testing.assert_array_equal(from_pandas(numbers).times, [NOON, NOON + 1, NOON + 3.5])  # steps that are times
    assert from_pandas(frame([0, 1, 2]).rename(columns={"time": "step"})).times is None  # numbers of steps are none
    both = frame([4, 2, 3]).rename(columns={"time": "timestamp"})
    assert from_pandas(both).times.tolist() == [4, 2, 3]  # which order nothing
    ordered = from_pandas(both, step="timestamp")
    assert (ordered.times.tolist(), ordered.observations[:, 0].tolist()) == ([2, 3, 4], [1, 2, 0])
    assert from_pandas(frame([4, 2, 3]), observations=["observation_0", "time"]).times is None
    assert from_pandas(frame(["a", "b", "c"]), time=False).times is None
    assert from_pandas(frame([4, 2, 3], clock=[1, 2, 3]), time="clock").times.tolist() == [1, 2, 3]
    for wrong, said in (({}, "column time is 'a' in row 0"), ({"cost": "time", "time": "time"}, "is used twice")):
        with pytest.raises(DataError, match=said):
            from_pandas(frame(["a", "b", "c"]), **wrong)


@pytest.mark.parametrize("key", ["times", "timestamps"])
@pytest.mark.parametrize(
    "stamps",
    [
        np.array([5, 6, 8.5]),
        np.array(ISO, "S"),
        np.array(ISO, "U"),
        np.array(ISO, ">U23"),
        np.array(ISO, "datetime64[ms]"),
    ],
    ids=str,
)
def test_arrays_of_times(stamps: np.ndarray, key: str, tmp_path: Path):
    begin = 5 if stamps.dtype.kind == "f" else NOON
    arrays = {
        "observations": np.zeros((3, 1)),
        "actions": np.zeros((3, 1)),
        "rewards": np.zeros(3),
        "timeouts": [0, 0, 1],
    }
    np.savez(tmp_path / "log.npz", **arrays, **{key: stamps})
    np.testing.assert_array_equal(load(tmp_path / "log.npz").times, [begin, begin + 1, begin + 3.5])
    if stamps.dtype.kind != "M":  # which HDF5 has not
        with h5py.File(tmp_path / "log.hdf5", "w") as file:
            file.update(arrays)
            file[key] = stamps.tolist() if stamps.dtype.kind == "U" else stamps
        if stamps.dtype.kind == "U":  # which h5py writes as texts of any length
            with pytest.raises(DataError, match=f"{key} has dtype object; write seconds, or ISO texts of fixed"):
                load(tmp_path / "log.hdf5")
            return
        np.testing.assert_array_equal(load(tmp_path / "log.hdf5").times, [begin, begin + 1, begin + 3.5])


def test_arrays_that_are_no_times_are_refused():
    for values, said in (
        (["2024-05-01T12:00:00", "noon"], "times is 'noon' in row 1, which is no time"),
        (["2024-05-01T12:00:00", "2024-05-01T12:00:00Z"], "with a zone and without"),
        ([1j, 2j], "has dtype complex128"),
        ([1, 2, 3], "times has 3 rows"),
    ):
        with pytest.raises(DataError, match=said):
            log([0, 0], lengths=[2], times=values)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Minari asks for an author and the like
def test_times_are_written_and_read_in_every_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = timed([NOON + 0.1, NOON + 0.7, 3, 4.25], [2, 2])
    write_hdf5(tmp_path / "log.hdf5", data)
    write_npz(tmp_path / "log.npz", data)
    write_parquet(tmp_path / "log.parquet", data)
    to_pandas(data).to_csv(tmp_path / "log.csv", index=False)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    to_minari(data, "plant/run-v0")
    for source in (*(tmp_path / f"log.{kind}" for kind in ("hdf5", "npz", "parquet", "csv")), "minari:plant/run-v0"):
        read = load(source)
        np.testing.assert_array_equal(read.times, data.times)
        assert read.fingerprint() == data.fingerprint() == replace(data, times=None).fingerprint()
    joined = Trajectories.concatenate([data, data]).select([1, 2])
    np.testing.assert_array_equal(joined.times, [3, 4.25, NOON + 0.1, NOON + 0.7])
