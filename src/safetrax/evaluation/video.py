"""One episode as an animated picture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from safetrax.catalogue import Task
from safetrax.envs.make import make_env, require_task
from safetrax.errors import ConfigError
from safetrax.evaluation.rollout import SEED_STRIDE
from safetrax.files import atomic_path
from safetrax.policies.batched import BatchedActors, Feed, require_finite, require_fit
from safetrax.policies.policy import Policies, Policy

_FRAMES = 90
_COLOURS = 128
_INK, _ALARM, _PAPER = (25, 25, 25), (190, 20, 30), (250, 250, 250)


def record_gif(
    policy: Policy,
    task: str,
    path: str | Path,
    *,
    seed: int = 0,
    horizon: int | None = None,
    fps: int = 15,
    every: int | None = None,
    size: tuple[int, int] = (360, 270),
) -> Path:
    """Draw the first episode of `evaluate(policy, task, seed=seed)` as an animated GIF, well below two megabytes.

    A line above the picture shows the step, the return and the cost so far; it is red while a frame's steps cost
    something.

    Args:
        policy: who acts.
        task: name of the task.
        path: the file, written atomically.
        seed: as that of `evaluate`.
        horizon: likewise.
        fps: frames per second.
        every: steps per frame; by default as many as give about ninety frames.
        size: width and height of the picture in pixels.

    Returns:
        The path.

    Raises:
        TaskError: the task is unknown, or its sizes are not the policy's.
        ConfigError: `fps`, `every` or `size` is below 1.
        SimulatorError: the simulator is missing or fails.
        RunError: the file cannot be written, or the policy gives actions that are not finite.
    """
    info = require_task(task, horizon=horizon)
    every = every if every is not None else math.ceil(info.horizon / _FRAMES)
    if min(fps, every, *size) < 1:
        raise ConfigError(f"fps, every and size must be at least 1, got {fps}, {every} and {size}.")
    frames = list(_frames(Policies.stack([policy]), info, seed, every, size))
    palette = _shared_palette(frames)
    images = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    with atomic_path(path) as temporary:
        images[0].save(
            temporary, format="GIF", save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0,
            optimize=True,
        )  # fmt: skip
    return Path(path)


def _frames(policies: Policies, task: Task, seed: int, every: int, size: tuple[int, int]) -> Iterator[Image.Image]:
    """The pictures of one episode, with captions; the first is of the start, the last of the end."""
    require_fit(policies, task)
    actors = BatchedActors(policies.actor, 1, seed)
    env = make_env(task.name, horizon=task.horizon, render=True)
    try:
        observation, _ = env.reset(seed=seed * SEED_STRIDE)
        now, step, returned, cost, alarm, ended = (0.0, 0.0), 0, 0.0, 0.0, False, False
        yield _picture(env.render(), size, task.name, step, returned, cost, alarm)
        while not ended:
            actions = actors.act(_feed(observation, now, step))
            require_finite(actions, np.ones((1, 1), bool), policies)
            observation, reward, terminated, truncated, answer = env.step(actions[0, 0])
            now = float(reward), answer["cost"]
            step, returned, cost, ended = step + 1, returned + now[0], cost + now[1], terminated or truncated
            alarm = alarm or now[1] > 0
            if ended or step % every == 0:
                yield _picture(env.render(), size, task.name, step, returned, cost, alarm)
                alarm = False
    finally:
        env.close()  # type: ignore[no-untyped-call]


def _feed(observation: np.ndarray, now: tuple[float, float], step: int) -> Feed:
    reward, cost, episode, steps = (np.full((1, 1), x) for x in (*now, 0, step))
    return Feed.of(observation[None, None], reward, cost, episode, steps)


def _picture(
    pixels: object, size: tuple[int, int], task: str, step: int, returned: float, cost: float, alarm: bool
) -> Image.Image:
    """A frame of `size`, with its caption on a strip at the top."""
    width, height = size
    strip = max(16, height // 13)
    image = Image.new("RGB", size, _PAPER)
    scene = Image.fromarray(np.asarray(pixels, np.uint8)).resize((width, height), Image.Resampling.LANCZOS)
    image.paste(scene.crop((0, strip, width, height)), (0, strip))
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=strip * 0.65)
    middle = strip / 2
    entries = (
        (task, 0.02, _INK),
        (f"step {step}", 0.28, _INK),
        (f"return {round(returned)}", 0.50, _INK),
        (f"cost {round(cost)}", 0.79, _ALARM if alarm else _INK),
    )
    free = 0.0
    for text, left, ink in entries:
        start = max(left * width, free)  # a long name moves what follows it
        draw.text((start, middle), text, fill=ink, font=font, anchor="lm")
        free = start + draw.textlength(text, font) + 0.03 * width
    if alarm:
        draw.rectangle((0, strip, width - 1, height - 1), outline=_ALARM, width=max(2, height // 90))
    return image


def _shared_palette(frames: list[Image.Image]) -> Image.Image:
    """One palette for all frames, so that still parts stay still and compress well."""
    chosen = [frames[i] for i in sorted({0, len(frames) // 2, len(frames) - 1})]
    width, height = chosen[0].size
    sheet = Image.new("RGB", (width, (height + 8) * len(chosen)), _ALARM)  # the alarm's colour is in it for sure
    for i, frame in enumerate(chosen):
        sheet.paste(frame, (0, i * (height + 8)))
    return sheet.quantize(_COLOURS, method=Image.Quantize.MAXCOVERAGE)
