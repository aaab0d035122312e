"""Policies in a form that runs where JAX does not."""

from importlib.util import find_spec

from safetrax.errors import ConfigError

for _package in ("onnx", "onnxruntime"):  # before the modules of this room import them
    if find_spec(_package) is None:
        raise ConfigError(f'export needs {_package}, which is not installed; pip install "safetrax[onnx]".')
