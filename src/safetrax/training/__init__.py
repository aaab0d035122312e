"""The loop: compiled program, checkpoints, logs, run folder."""
