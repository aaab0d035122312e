"""The reach-avoid world: its arithmetic by hand, its feasible region by force, its drivers and their data."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import safetrax as st
from safetrax.data import load, validate, write_hdf5
from safetrax.envs import make_env
from safetrax.envs.reach_avoid import build, versions
from safetrax.envs.reach_avoid.dataset import Expert, Wanderer, drive, reach_avoid_data
from safetrax.envs.reach_avoid.feasible_region import TURNS, brake, feasible, margin
from safetrax.envs.reach_avoid.play import Recording, play, record
from safetrax.envs.reach_avoid.world import BARS_START, FISOR_START, HAZARD_START, STARTS, ReachAvoid
from safetrax.errors import ConfigError, DataError, SimulatorError

WORLD = ReachAvoid()
THIN = 0.03  # metres; turning in two phases rescues some states that are closer to the region's edge than this
NEAR_EDGE = 24


def states(count: int, seed: int = 0, slowest: float = 0.0) -> np.ndarray:
    """Uniform over the arena, all headings, and the speeds from `slowest` on."""
    low, high = [-3.0, -3.0, slowest, -math.pi], [3.0, 3.0, 2.0, math.pi]
    return np.random.default_rng(seed).uniform(low, high, (count, 4)).astype(np.float32)


def drawn(start: tuple[float, float, float, float], count: int) -> list[np.ndarray]:
    world = ReachAvoid(start=start)
    return [world.draw(np.random.default_rng(seed)) for seed in range(count)]


@pytest.mark.parametrize("array", [np.float32, jnp.float32])
def test_one_step_by_hand(array):
    step = WORLD.step(array([0.0, 0.0, 1.0, 0.0]), array([1.0, -0.5]))
    assert np.allclose(step.state, [0.05, 0.0, 1.05, -0.025])
    assert float(step.reward) == pytest.approx(math.hypot(2.2, 2.2) - math.hypot(2.15, 2.2), abs=1e-6)
    assert (float(step.cost), bool(step.terminated)) == (0.0, False)
    assert step.state.dtype == step.reward.dtype == step.cost.dtype == np.float32
    sideways = WORLD.step(array([0.0, 0.0, 1.0, math.pi / 6]), array([0.0, 0.0]))
    assert np.allclose(sideways.state, [0.05 * math.cos(math.pi / 6), 0.025, 1.0, math.pi / 6])


def test_actions_and_speeds_are_cut():
    wild = WORLD.step(np.float32([0, 0, 1.99, 0]), np.float32([7, -9]))
    assert np.allclose(wild.state[2:], [2.0, -0.05])
    assert WORLD.step(np.float32([0, 0, 0.01, 0]), np.float32([-1, 0])).state[2] == 0.0


def test_the_observation_by_hand():
    seen = WORLD.observe(np.float32([1.0, 2.0, 0.5, math.pi / 3]))
    assert np.allclose(seen, [1, 2, 0.5, 0.5, math.sqrt(3) / 2, 1.2, 0.2, -0.6, -3.2, -1.4, -0.8])
    assert WORLD.observation_size == len(seen) == 11
    some = states(50)
    assert np.allclose(WORLD.state_of(WORLD.observe(some)), some, atol=1e-6)
    assert np.allclose(WORLD.observe(jnp.asarray(some)), WORLD.observe(some), atol=1e-6)


@pytest.mark.parametrize(
    ("y", "theta", "cost"),
    [(-0.35, -math.pi / 2, 1.0), (-0.25, -math.pi / 2, 0.0), (-0.45, math.pi / 2, 0.0), (-0.55, math.pi / 2, 1.0)],
)
def test_the_new_state_pays_within_the_radius(y: float, theta: float, cost: float):
    # 0.1 m a step, straight down into the lower hazard, whose edge is at y = -0.4, or up out of it
    assert WORLD.step(np.float32([0.4, y, 2.0, theta]), np.zeros(2, np.float32)).cost == cost


def test_the_goal_ends_an_episode_with_a_bonus_and_the_border_without():
    still = np.zeros(2, np.float32)
    before = WORLD.step(np.float32([1.75, 2.2, 2.0, 0.0]), still)
    assert (bool(before.terminated), float(before.reward)) == (False, pytest.approx(0.1, abs=1e-5))
    arrived = WORLD.step(np.float32([1.85, 2.2, 2.0, 0.0]), still)
    assert (bool(arrived.terminated), float(arrived.reward)) == (True, pytest.approx(1.1, abs=1e-5))
    gone = WORLD.step(np.float32([0.0, -2.95, 2.0, -math.pi / 2]), still)
    assert bool(gone.terminated)
    assert float(gone.reward) < 0


def test_starts_are_near_the_chosen_one_and_can_be_vmapped():
    keys = jax.random.split(jax.random.key(0), 200)
    for start in STARTS.values():
        world = ReachAvoid(start=start)
        from_keys, from_seeds = np.asarray(jax.vmap(world.reset)(keys)), np.stack(drawn(start, 200))
        for several in (from_keys, from_seeds):
            assert np.abs(several - np.float32(start)).max() <= 0.0201
            assert (several.std(axis=0)[[0, 1, 3]] > 0.009).all()
            assert several[:, 2].max() <= 2.0


def test_an_episode_in_the_gymnasium_environment():
    env = make_env("ReachAvoid")
    observation, info = env.reset(seed=3)
    assert np.array_equal(observation, WORLD.observe(WORLD.draw(np.random.default_rng(3))))
    assert (observation.dtype, info) == (np.float32, {"cost": 0.0})
    assert env.observation_space.contains(observation)
    seen = [env.step(np.array([0.0, -0.5]))[1:] for _ in range(25)]
    assert {type(value) for _, terminated, truncated, _ in seen for value in (terminated, truncated)} == {bool}
    assert {info["cost"] for *_, info in seen} == {0.0, 1.0}  # straight through the lower hazard
    env.reset(seed=3)
    brake_only = [env.step(np.float32([-1.0, 0.0]))[1:4] for _ in range(300)]
    assert [truncated for _, _, truncated in brake_only] == [False] * 299 + [True]
    assert not any(terminated for _, terminated, _ in brake_only)
    with pytest.raises(SimulatorError, match="call reset"):
        env.step(np.zeros(2))


def test_resets_follow_the_seed_and_nothing_else():
    env = make_env("ReachAvoid-FISOR")
    first = [env.reset(seed=5)[0].tobytes(), env.reset()[0].tobytes(), env.reset()[0].tobytes()]
    assert len(set(first)) == 3
    env.step(np.ones(2))
    assert [env.reset(seed=5)[0].tobytes(), env.reset()[0].tobytes(), env.reset()[0].tobytes()] == first


def test_faults_of_the_environment_are_sentences():
    env = make_env("ReachAvoid")
    with pytest.raises(SimulatorError, match="call reset"):
        env.step(np.zeros(2))
    env.reset(seed=0)
    for action in ([np.nan, 0.0], [0.0, 0.0, 0.0]):
        with pytest.raises(SimulatorError, match="cannot execute the action"):
            env.step(np.array(action))
    with pytest.raises(SimulatorError, match="without render=True"):
        env.render()
    with pytest.raises(SimulatorError, match="has no environment 'ReachAvoid-v9'; it has ReachAvoid-v0"):
        build("ReachAvoid-v9", 300)
    with pytest.raises(ConfigError, match=r"dt of the reach-avoid world is 0.0, but must be positive"):
        ReachAvoid(dt=0.0)
    with pytest.raises(ConfigError, match="the start's speed is 3, but must be 0 to 2"):
        ReachAvoid(start=(0.0, 0.0, 3.0, 0.0))
    assert st.__version__ in versions()


def test_the_picture_shows_the_arena_and_the_alarm():
    env = make_env("ReachAvoid-Hazard", render=True)
    env.reset(seed=0)
    env.step(np.zeros(2))
    picture = env.render()
    assert (picture.shape, picture.dtype) == ((360, 480, 3), np.uint8)
    x, y, _, _ = env.unwrapped.state
    there = picture[int(180 - 60 * y), int(240 + 60 * x)].astype(int)
    assert there[0] > 150 > there[1]  # red: it costs something
    goal = picture[int(180 - 60 * 2.2), int(240 + 60 * 2.2)].astype(int)
    assert goal[1] > goal[0] + 40
    assert (picture[0, 0] == picture[0, 0, 0]).all()


def test_worker_processes_need_no_jax():
    code = """
import sys
from safetrax.envs.suites import build_env
env = build_env("reach_avoid", "ReachAvoid-v0", 300)
env.reset(seed=0)
env.step([0.0, 0.0])
print("jax" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_some_states_whose_feasibility_is_known():
    known = {
        (*FISOR_START,): True,
        (-1.5, 0.0, 2.0, math.pi / 4): False,  # as a remark in FISOR's code has it
        (*BARS_START,): True,
        (*HAZARD_START,): False,
        (0.4, -0.39, 0.0, -math.pi / 2): True,  # at rest, a centimetre outside
        (0.4, -0.39, 0.5, -math.pi / 2): False,
        (0.4, -0.39, 2.0, math.pi / 2): True,
    }
    assert np.asarray(feasible(WORLD, np.float32([*known]))).tolist() == list(known.values())
    share = 1 - np.asarray(feasible(WORLD, states(20_000))).mean()
    assert 0.13 < share < 0.16  # the hazards alone are 0.112 of the arena
    assert np.asarray(feasible(WORLD, states(6).reshape(2, 3, 4))).shape == (2, 3)


def test_feasible_states_are_saved_by_braking():
    some = states(4000, seed=1)
    yes = some[np.asarray(feasible(WORLD, some))]
    best = np.asarray(brake(WORLD, jnp.asarray(yes), TURNS).clearance).argmax(axis=0)
    action = np.stack([-np.ones(len(yes)), np.array(TURNS)[best]], axis=1).astype(np.float32)
    now = yes
    for _ in range(41):
        step = WORLD.step(now, action)
        assert not step.cost.any()
        now = step.state
    assert (now[:, 2] == 0).all()


def hopeless(count: int, least: float = -10.0) -> np.ndarray:
    """States outside of the hazards that are called infeasible, but for a thin margin."""
    some = states(40_000, seed=2, slowest=0.3)
    kept = np.asarray(margin(WORLD, some))
    chosen = some[(kept < -THIN) & (kept > least) & (WORLD.clearance(some) >= 0)]
    assert len(chosen) >= count
    return chosen[:count]


def test_random_controls_rescue_no_infeasible_state():
    begin = hopeless(800)
    generator = np.random.default_rng(3)
    now, lost = np.repeat(begin, 50, axis=0), np.zeros(50 * len(begin), bool)
    for step in range(48):
        if step % 6 == 0:
            action = generator.choice([-1.0, -0.3, 0.3, 1.0], (len(now), 2)).astype(np.float32)
        done = WORLD.step(now, action)
        now, lost = done.state, lost | (done.cost > 0)
    assert not np.asarray(feasible(WORLD, now))[~lost].any()
    assert lost.mean() > 0.9  # only those are left that crawl towards a hazard


def test_no_branch_of_a_tree_of_controls_rescues_an_infeasible_state():
    now = hopeless(NEAR_EDGE, least=-0.12)
    controls = np.float32(list(itertools.product((-1.0, 0.0, 1.0), repeat=2)))
    for _ in range(4):  # two seconds, in which the fastest can stop
        now, action = np.repeat(now, 9, axis=0), np.tile(controls, (len(now), 1))
        free = np.ones(len(now), bool)
        for _ in range(10):
            step = WORLD.step(now, action)
            now, free = step.state, free & (step.cost == 0)
        now = now[free]
        padded = np.zeros((2000, 4), np.float32)  # one shape, compiled once
        assert len(now) <= len(padded)
        padded[: len(now)] = now
        assert not np.asarray(feasible(WORLD, padded))[: len(now)].any()


@pytest.fixture(scope="module")
def driven() -> Recording:
    """The expert from each of the three starts eight times, and from forty states anywhere."""
    starts = np.stack([state for start in STARTS.values() for state in drawn(start, 8)] + list(states(40, seed=4)))
    return jax.tree.map(np.asarray, record(WORLD, Expert.make(WORLD), starts, jax.random.key(0)))


def last_states(driven: Recording) -> np.ndarray:
    return driven.states[driven.lengths, np.arange(len(driven.lengths))]


def test_the_expert_arrives_and_pays_only_what_it_must(driven: Recording):
    costs, returns = driven.costs.sum(axis=0), driven.rewards.sum(axis=0)
    arrived = WORLD.distance(last_states(driven)) <= WORLD.goal_radius
    assert arrived[:24].all()
    assert not costs[:16].any()
    assert (costs[16:24] > 4).all()
    assert (costs[16:24] < 9).all()
    assert not costs[24:][np.asarray(feasible(WORLD, driven.states[0, 24:]))].any()
    outside = np.abs(last_states(driven)[:, :2]).max(axis=1) > WORLD.arena
    assert (arrived | outside).all()  # it stands still nowhere, though some starts leave the arena whatever one does
    assert outside.mean() < 0.2
    for i, name in enumerate(("ReachAvoid", "ReachAvoid-FISOR", "ReachAvoid-Hazard")):
        assert returns[8 * i : 8 * i + 8].mean() == pytest.approx(st.get_task(name).reward_max, abs=0.02)


def test_a_record_is_what_the_world_does(driven: Recording):
    for episode in (0, 30):
        state, length = driven.states[0, episode], driven.lengths[episode]
        for t in range(length):
            step = WORLD.step(state, driven.actions[t, episode])
            state = step.state
            assert np.allclose(state, driven.states[t + 1, episode], atol=1e-4)
            assert float(step.reward) == pytest.approx(driven.rewards[t, episode], abs=1e-4)
        assert driven.terminated[:, episode].nonzero()[0].tolist() == [length - 1]
        assert not driven.rewards[length:, episode].any()


def test_the_random_driver_pays_and_play_adds_up_what_record_records():
    starts, key = states(32, seed=5), jax.random.key(7)
    kept = jax.tree.map(np.asarray, record(WORLD, Wanderer.make(), starts, key))
    assert kept.costs.sum() > 100
    assert np.abs(kept.actions).max() <= 1
    assert len(np.unique(kept.actions[:30, 0, 0])) in range(2, 15)  # held for a while
    two = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), Wanderer.make())
    numbers = np.arange(32, dtype=np.int32)
    numbers[31] = -1
    totals = play(WORLD, two, starts, numbers, key)
    for row in (0, 1):
        assert np.allclose(totals.returns[row, :31], kept.rewards.sum(axis=0)[:31], atol=1e-4)
        assert np.array_equal(totals.costs[row, :31], kept.costs.sum(axis=0)[:31])
        assert np.array_equal(totals.lengths[row, :31], kept.lengths[:31])
    assert totals.lengths[0, 31] == 0
    assert bool(totals.finite.all())


@pytest.fixture(scope="module")
def data() -> dict[float, st.Trajectories]:
    return {ratio: reach_avoid_data(ratio, transitions=8000, seed=1) for ratio in (19.0, 5.0)}


def test_data_have_the_ratio_and_the_size_that_was_asked_for(data):
    for ratio, made in data.items():
        costly = int((made.costs > 0).sum())
        assert (made.num_transitions - costly) / costly == pytest.approx(ratio, rel=0.02)
        assert made.num_transitions == pytest.approx(8000, rel=0.06)
        assert made.info["task"] == "ReachAvoid"
        assert not [finding for finding in validate(made) if finding.severity == "error"]
        arrivals = made.rewards[made.offsets[1:] - 1] > 0.9
        assert made.terminated[made.offsets[1:] - 1][arrivals].all()
        first = made.observations[made.offsets[:-1]]
        near = [
            (np.abs(first[:, :3] - np.float32(start[:3])) < 0.03).all(axis=1) for start in (BARS_START, FISOR_START)
        ]
        assert all(arrivals[fixed].mean() > 0.9 and not made.cost_returns[fixed].any() for fixed in near)
    share = {ratio: (made.cost_returns > 0).mean() for ratio, made in data.items()}
    assert share[5.0] > share[19.0]


def test_data_follow_the_world(data):
    made = data[5.0]
    following = made.next_observations
    assert following is not None
    inside = np.ones(made.num_transitions, bool)
    inside[made.offsets[1:] - 1] = False
    assert np.array_equal(made.observations[1:][inside[:-1]], following[:-1][inside[:-1]])
    step = WORLD.step(WORLD.state_of(made.observations), made.actions)
    assert np.allclose(WORLD.observe(step.state), following, atol=1e-4)
    assert np.allclose(step.reward, made.rewards, atol=1e-4)
    assert (step.cost != made.costs).mean() < 1e-3  # at the very edge, rounding decides
    assert made.lengths.max() <= 300


def test_data_are_a_function_of_their_arguments_and_can_be_saved(data, tmp_path):
    again = reach_avoid_data(19.0, transitions=8000, seed=1)
    assert again.fingerprint() == data[19.0].fingerprint()
    assert reach_avoid_data(19.0, transitions=8000, seed=2).fingerprint() != again.fingerprint()
    write_hdf5(tmp_path / "ReachAvoid-v0-19.hdf5", again)
    back = load(tmp_path / "ReachAvoid-v0-19.hdf5", next_observations=True)
    assert back.fingerprint() == again.fingerprint()
    assert back.info["task"] == "ReachAvoid"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"safe_to_unsafe": 0.5}, "safe_to_unsafe is 0.5, but must be a number of at least 1"),
        ({"safe_to_unsafe": float("nan")}, "safe_to_unsafe is nan"),
        ({"transitions": 10}, "transitions is 10, but must be at least 1000"),
        ({"seed": -1}, "seed is -1, but must be at least 0"),
        ({"safe_to_unsafe": 500, "transitions": 2000}, "2000 transitions at a safe_to_unsafe of 500 would have"),
    ],
)
def test_impossible_data_are_refused_at_once(arguments, words):
    with pytest.raises(ConfigError, match=words):
        reach_avoid_data(**arguments)


def test_driving_gives_a_log_of_a_policy():
    made = drive(Wanderer.make(), env_seeds=range(3), seed=1)
    assert made.num_episodes == 3
    assert np.array_equal(made.observations[0], WORLD.observe(WORLD.draw(np.random.default_rng(0))))
    with pytest.raises(DataError, match="no episodes"):
        drive(Wanderer.make(), env_seeds=())
