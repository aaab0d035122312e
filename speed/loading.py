"""Memory and speed of loading a large file, each in a fresh process: `python benchmarks/loading.py` alone, too.

The file is as DSRL writes them (gzip, h5py's own chunks) and has 3.7 million transitions of 88 numbers, its largest.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

TRANSITIONS, OBSERVATIONS, ACTIONS, HORIZON = 3_700_000, 88, 2, 1000
KEYS = ("observations", "actions", "rewards", "costs", "terminals", "timeouts")


def generate(path: Path, transitions: int = TRANSITIONS) -> None:
    """Write the file in seconds: few different chunks are compressed, and each is stored many times."""
    rng = np.random.default_rng(0)
    ends = np.zeros(transitions, bool)
    ends[HORIZON - 1 :: HORIZON] = True
    ends[-1] = True
    columns = {
        "actions": rng.uniform(-1, 1, (transitions, ACTIONS)).astype(np.float32),
        "rewards": rng.standard_normal(transitions, np.float32),
        "costs": rng.integers(0, 2, transitions).astype(np.float32),
        "terminals": np.zeros(transitions, bool),
        "timeouts": ends,
    }
    with h5py.File(path, "w") as file:
        for key, column in columns.items():
            file.create_dataset(key, data=column, compression="gzip")
        dataset = file.create_dataset("observations", (transitions, OBSERVATIONS), "f4", compression="gzip")
        stored = [_compressed(dataset.chunks, seed) for seed in range(16)]
        tall, wide = dataset.chunks
        for row in range(0, transitions, tall):
            for column in range(0, OBSERVATIONS, wide):
                dataset.id.write_direct_chunk((row, column), stored[rng.integers(len(stored))])


def _compressed(shape: tuple[int, int], seed: int) -> bytes:
    """A chunk as a lidar would fill it: one half zeros, the rest numbers between 0 and 1."""
    rng = np.random.default_rng(seed)
    chunk = rng.uniform(0, 1, shape).astype(np.float32)
    chunk[rng.uniform(size=shape) < 0.5] = 0
    with h5py.File("chunk", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset("x", data=chunk, chunks=shape, compression="gzip")
        return bytes(dataset.id.read_direct_chunk((0, 0))[1])


def measure(mode: str, path: Path) -> dict[str, float]:
    """What one process finds. Modes: load, raw (h5py alone, the limit), store (load, check and put on the device)."""
    import safetrax.data as data

    data.load("demo")  # imports whatever is imported late
    if mode == "store":
        import jax.numpy as jnp

        from safetrax.data.store import Store

        jnp.zeros(1).block_until_ready()
    before = _resident("VmRSS")
    start = time.perf_counter()
    if mode == "raw":
        arrays = _raw(path)
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "bytes": sum(array.nbytes for array in arrays)}
    loaded = data.load(path)
    seconds = time.perf_counter() - start
    if mode == "store":
        data.check(loaded)
        store = Store.make(loaded, {"observations", "actions"})
        store.actions.block_until_ready()
    peak = _resident("VmHWM") - before
    needed = (loaded.observations, loaded.actions, loaded.rewards, loaded.costs, loaded.terminated, loaded.truncated)
    size = sum(array.nbytes for array in needed)
    return {"seconds": seconds, "bytes": size, "peak": peak, "ratio": peak / size}


def _raw(path: Path) -> list[np.ndarray]:
    """Everything by h5py alone, and nothing else."""
    with h5py.File(path) as file:
        arrays = [np.empty(file[key].shape, file[key].dtype) for key in KEYS]
        for key, array in zip(KEYS, arrays, strict=True):
            file[key].read_direct(array)
        return arrays


def _resident(field: str) -> int:
    """Bytes of memory of this process: VmRSS now, VmHWM at most."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent had
        return int(re.search(rf"{field}:\s+(\d+)", status.read_text())[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def loading(transitions: int = TRANSITIONS, tries: int = 2) -> dict[str, float]:
    """Generate, measure, delete."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.hdf5"
        generate(path, transitions)
        found: dict[str, list[dict[str, float]]] = {}
        for mode in [*("raw", "load") * tries, "store"]:
            output = subprocess.check_output([sys.executable, __file__, mode, str(path)], text=True)
            found.setdefault(mode, []).append(json.loads(output.splitlines()[-1]))
        file_bytes = path.stat().st_size
    seconds = {mode: min(result["seconds"] for result in results) for mode, results in found.items()}
    size = found["load"][0]["bytes"]
    return {
        "load_memory_ratio": round(max(result["ratio"] for result in found["load"]), 3),
        "load_store_memory_ratio": round(found["store"][0]["ratio"], 3),
        "load_rate_ratio": round(seconds["raw"] / seconds["load"], 3),
        "load_mb_per_s": round(size / seconds["load"] / 1e6, 1),
        "load_s": round(seconds["load"], 2),
        "load_gb": round(size / 1e9, 3),
        "load_file_gb": round(file_bytes / 1e9, 3),
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], Path(sys.argv[2])) if len(sys.argv) == 3 else loading()))
