"""Comparisons: grids of trainings and ablations, the tables that papers published, and the two side by side."""
