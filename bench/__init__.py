"""Measurements: each a module that prints its table; `python -m bench` runs them all."""
