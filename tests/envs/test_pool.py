"""Worker processes: they answer in order, are replaced when they die, and never stay behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from safetrax.data import get_task
from safetrax.envs import make_env
from safetrax.envs.pool import EnvPool
from safetrax.envs.protocol import IDLE, STEP_ON, Answers, Setup, commands_from_bytes, commands_to_bytes
from safetrax.errors import ConfigError, SimulatorError, TaskError


def pids(pool: EnvPool) -> list[int]:
    return [handle._process.pid for handle in pool._handles]


def ask(pool: EnvPool, group: int, commands: list[int], actions: np.ndarray) -> Answers:
    pool.send(group, np.array(commands), actions.astype(np.float32))
    return pool.receive(group)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(processes: list[int], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(is_running(pid) for pid in processes):
            return True
        time.sleep(0.05)
    return False


def test_messages_survive_the_journey():
    rng = np.random.default_rng(0)
    flags = np.array([[True, False, True], [False, False, True]])
    answers = Answers(rng.random((3, 5), np.float32), rng.random((3, 2), np.float32), *rng.random((2, 3)), *flags)
    again = Answers.from_bytes(answers.to_bytes(), 3, 5, 2)
    for name in vars(answers):
        assert np.array_equal(getattr(again, name), getattr(answers, name))
    commands, actions = commands_from_bytes(commands_to_bytes(np.array([7, STEP_ON]), np.ones((2, 3))), 2)
    assert commands.tolist() == [7, STEP_ON]
    assert actions.shape == (2, 3)
    setup = Setup("bullet", "SafetyBallRun-v0", 100, 7, 2, (2, 1), 60.0)
    assert Setup.from_bytes(setup.to_bytes()) == setup


def test_slots_equal_environments_in_process():
    actions = np.random.default_rng(0).uniform(-1, 1, (4, 3, 2)).astype(np.float32)
    env = make_env("BallRun")
    with EnvPool("BallRun", slots=3, workers=2) as pool:
        pool.begin()
        first = ask(pool, 1, [10, IDLE, 12], actions[0])
        answers = [ask(pool, 1, [STEP_ON, IDLE, STEP_ON], a) for a in actions]
    for slot, seed in ((0, 10), (2, 12)):
        assert np.array_equal(first.observations[slot], env.reset(seed=seed)[0])
        for answer, action in zip(answers, actions, strict=True):
            observation, reward, _, _, info = env.step(action[slot])
            assert np.array_equal(answer.observations[slot], observation)
            assert (answer.rewards[slot], answer.costs[slot]) == (reward, info["cost"])
    assert not any(answer.observations[1].any() for answer in answers)


def test_a_killed_worker_is_replaced_where_it_was():
    actions = np.random.default_rng(1).uniform(-1, 1, (30, 4, 2)).astype(np.float32)

    def play(deaths: tuple[int, ...]) -> list[bytes]:
        seen = [ask(pool, g, [1, 2, 3, 4], actions[0]).observations.tobytes() for g in (0, 1)]
        for step, action in enumerate(actions):
            for group in (0, 1):
                pool.send(group, np.full(4, STEP_ON), action)
            if step in deaths:
                os.kill(pids(pool)[step % 2], signal.SIGKILL)
            seen += [pool.receive(group).to_bytes() for group in (0, 1)]
        return seen

    with EnvPool("BallRun", slots=4, workers=2) as pool:
        pool.begin()
        expected = play(())
        assert pool.deaths == 0
        assert play((7, 20)) == expected
        assert pool.deaths == 2


def test_the_third_death_is_an_error_and_the_pool_recovers():
    with EnvPool("BallRun", slots=1, workers=1) as pool:
        pool.begin()
        still = np.zeros((1, 2), np.float32)
        ask(pool, 0, [5], still)
        for _ in range(2):
            os.kill(pids(pool)[0], signal.SIGKILL)
            ask(pool, 0, [STEP_ON], still)
        os.kill(pids(pool)[0], signal.SIGKILL)
        with pytest.raises(SimulatorError, match=r"died 3 times in one evaluation, the last one killed by SIGKILL"):
            ask(pool, 0, [STEP_ON], still)
        pool.begin()
        assert pool.deaths == 0
        assert ask(pool, 0, [5], still).observations.any()


def test_a_worker_that_died_in_idleness_does_not_count():
    with EnvPool("BallRun", slots=1, workers=1) as pool:
        pool.begin()
        os.kill(pids(pool)[0], signal.SIGKILL)
        pool._handles[0]._process.wait()
        pool.begin()
        assert ask(pool, 0, [5], np.zeros((1, 2))).observations.any()
        assert pool.deaths == 0


def test_an_exception_in_a_worker_comes_back_as_a_sentence():
    with EnvPool("BallRun", slots=1, workers=1) as pool:
        pool.begin()
        ask(pool, 0, [5], np.zeros((1, 2)))
        with pytest.raises(SimulatorError, match="cannot execute the action"):
            ask(pool, 0, [STEP_ON], np.full((1, 2), np.nan))


def test_workers_ignore_ctrl_c_load_no_jax_and_are_reaped():
    with EnvPool("BallRun", slots=2, workers=2) as pool:
        pool.begin()
        ask(pool, 0, [1, 2], np.zeros((2, 2)))
        processes = pids(pool)
        for pid in processes:
            os.kill(pid, signal.SIGINT)
            assert "jaxlib" not in Path(f"/proc/{pid}/maps").read_text()
        assert ask(pool, 0, [STEP_ON, STEP_ON], np.zeros((2, 2))).observations.any()
        assert pool.deaths == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in processes)
    with pytest.raises(SimulatorError, match="is closed"):
        pool.begin()


def test_no_orphans_after_the_parent_is_killed():
    code = (
        "import time; from safetrax.envs.pool import EnvPool; import numpy as np\n"
        "pool = EnvPool('BallRun', slots=2, workers=2); pool.begin()\n"
        "pool.send(0, np.array([1, 2]), np.zeros((2, 2), np.float32)); pool.receive(0)\n"
        "print(*[h._process.pid for h in pool._handles], flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(workers) == 2
    assert all(is_running(pid) for pid in workers)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert wait_until_gone(workers)


def test_a_worker_whose_pipe_closes_ends():
    worker = subprocess.Popen(
        [sys.executable, "-m", "safetrax.envs.env_worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    worker.communicate(timeout=30)  # closes stdin
    assert worker.returncode == 0


@pytest.mark.parametrize("numbers", [{"slots": 0}, {"slots": 2, "workers": 0}])
def test_sizes_below_one(numbers: dict[str, int]):
    with pytest.raises(ConfigError, match="at least 1"):
        EnvPool("BallRun", **numbers)


def test_unknown_and_unsupported_tasks():
    with pytest.raises(TaskError):
        EnvPool("BallJump")
    with pytest.raises(SimulatorError, match="not supported"):
        EnvPool(replace(get_task("BallRun"), suite="no-such-suite"))
