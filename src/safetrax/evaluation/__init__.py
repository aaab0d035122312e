"""Evaluation: episodes in the environment, their rows, and the scores and verdicts derived from them."""
