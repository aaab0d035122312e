"""Grids of trainings: jobs, where they run, and what is kept of them."""
