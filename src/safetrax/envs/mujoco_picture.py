"""A MuJoCo scene, drawn without a display."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import mujoco
import numpy as np

from safetrax.errors import SimulatorError

_GL_PACKAGES = "libegl1 libgl1 libgl1-mesa-dri libglx-mesa0 libgles2 (EGL) or libosmesa6 (OSMesa)"


class Painter:
    """Draws a MuJoCo scene without a display.

    Safety-Gymnasium's own pictures come out without hazards and goals under numpy 2, and cannot be taken from where
    the whole arena is seen.

    Raises:
        SimulatorError: there is no OpenGL to draw with.
    """

    def __init__(self, width: int, height: int) -> None:
        self._gl = _open_gl(width, height)
        self._size = width, height
        self._viewport = mujoco.MjrRect(0, 0, width, height)
        self._options = mujoco.MjvOption()
        _true_view(self._options.geomgroup)[:] = 1  # hazards, goals and walls are in groups that are off at first
        self._model: Any = None
        self._is_open = True
        # before the atexit handler that EGL registered when it was opened, after which nothing can be freed
        atexit.register(_close_if_alive, weakref.ref(self))

    def __del__(self) -> None:
        if getattr(self, "_is_open", False):
            self.close()

    def paint(
        self,
        model: Any,
        data: Any,
        target: np.ndarray,
        camera: dict[str, float],
        balls: Sequence[tuple[np.ndarray, float, tuple[float, ...]]],
    ) -> np.ndarray:
        """The scene as uint8 `(height, width, 3)`, with more balls: centre, radius and RGBA.

        The camera looks at `target`, from a distance in metres with an azimuth and an elevation in degrees.
        """
        self._gl.make_current()
        if model is not self._model:
            self._upload(model)
        view = mujoco.MjvCamera()
        for name, number in camera.items():
            setattr(view, name, number)
        _true_view(view.lookat)[:] = target
        mujoco.mjv_updateScene(
            model, data, self._options, mujoco.MjvPerturb(), view, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        for centre, radius, colour in balls:
            ball = self._scene.geoms[self._scene.ngeom]
            size, turn, rgba = np.full(3, radius), np.eye(3).ravel(), np.asarray(colour, np.float32)
            mujoco.mjv_initGeom(ball, mujoco.mjtGeom.mjGEOM_SPHERE, size, centre, turn, rgba)
            self._scene.ngeom += 1
        mujoco.mjr_render(self._viewport, self._scene, self._context)
        width, height = self._size
        pixels = np.empty((height, width, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, self._viewport, self._context)
        return pixels[::-1].copy()  # OpenGL begins at the bottom

    def close(self) -> None:
        """Free the graphics memory. A second call does nothing."""
        if self._is_open:
            self._is_open = False
            self._forget_model()
            self._gl.free()

    def _upload(self, model: Any) -> None:
        self._forget_model()
        model.vis.global_.offwidth, model.vis.global_.offheight = self._size
        walls = [i for i in range(model.ngeom) if model.geom(i).name.startswith("sigwall")]
        model.geom_rgba[walls, 3] = 0.4  # the simulator's own are hardly seen
        self._scene = mujoco.MjvScene(model, 1000)
        _true_view(self._scene.flags)[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._model = model

    def _forget_model(self) -> None:
        if self._model is not None:
            self._gl.make_current()
            self._context.free()
            self._model = None


def _close_if_alive(reference: weakref.ref[Painter]) -> None:
    painter = reference()
    if painter is not None:
        painter.close()


def _open_gl(width: int, height: int) -> Any:
    """An OpenGL context that needs no display: of `MUJOCO_GL` if set, otherwise EGL, OSMesa or a hidden window."""
    asked = os.environ.get("MUJOCO_GL", "").strip().lower()
    hidden_window = ["glfw"] if sys.platform != "linux" or "DISPLAY" in os.environ else []
    backends = [asked] if asked in ("egl", "osmesa", "glfw") else ["egl", "osmesa", *hidden_window]
    reasons = []
    for backend in backends:
        try:
            context = import_module(f"mujoco.{backend}").GLContext(width, height)
            if not context._context:
                raise RuntimeError("there is no display")  # said by nobody else; drawing would end the process
            context.make_current()
        except Exception as error:  # every layer below has its own way to say that something is missing
            reasons.append(f"{backend}: {type(error).__name__}: {error}")
            _unload_gl(backend)
        else:
            return context
    raise SimulatorError(
        f"no picture can be drawn here ({'; '.join(reasons)}); on Debian, install {_GL_PACKAGES}, "
        "or set MUJOCO_GL to one that works."
    )


def _unload_gl(backend: str) -> None:
    """Undo a failed attempt: PyOpenGL keeps to the first platform that it was loaded for."""
    if os.environ.get("PYOPENGL_PLATFORM") == backend:
        del os.environ["PYOPENGL_PLATFORM"]
    for name in [name for name in sys.modules if name.split(".")[0] == "OpenGL" or f"mujoco.{backend}" in name]:
        del sys.modules[name]


def _true_view(array: np.ndarray) -> np.ndarray:
    """The writable array that MuJoCo means; before 3.1, numpy 2 sees its small arrays with strides of zero."""
    if 0 not in array.strides:
        return array
    return np.lib.stride_tricks.as_strided(array, strides=np.empty(array.shape, array.dtype).strides)
