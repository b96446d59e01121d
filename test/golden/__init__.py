"""Answers that stay what they were, and the pictures that they belong to."""
