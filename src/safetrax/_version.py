"""The version, for all that must not import the package's top."""

__version__ = "0.1.0"
