"""Evaluation of the estimator: the commands behind the figures in docs/accuracy.md."""
