"""Data and a walk-through that run on any machine."""
