"""Getting DSRL's files: mirrors, resumption, checks, and nothing half-written under a file's own name."""

from safetrax.data.download.job import download

__all__ = ["download"]
