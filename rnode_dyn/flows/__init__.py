"""Continuous normalizing flows and what they are made of."""
