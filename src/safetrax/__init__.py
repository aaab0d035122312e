"""SafeTraX: offline safe reinforcement learning, from a log of trajectories to an evaluated policy."""

__version__ = "0.1.0"
