"""Figures: Altair charts from plain arrays, one definition for notebooks, files and the report page."""
