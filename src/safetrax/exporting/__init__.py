"""Policies in a form that runs where JAX does not."""

from importlib.util import find_spec

from safetrax.errors import ConfigError


def require_onnx() -> None:
    """Check that what export needs is there.

    Raises:
        ConfigError: it is not.
    """
    for package in ("onnx", "onnxruntime"):
        if find_spec(package) is None:
            raise ConfigError(f'export needs {package}, which is not installed; pip install "safetrax[onnx]".')
