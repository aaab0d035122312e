"""Making data sets: agents, drivers and trained policies act in a simulator, and whole episodes are kept."""

from safetrax.collection.collecting import Collection, CollectionInterruptedError, collect

__all__ = ["Collection", "CollectionInterruptedError", "collect"]
