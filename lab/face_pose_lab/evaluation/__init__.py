"""Measuring the estimator: what is claimed in README is printed by a command of this folder."""
