"""Likelihoods of held-out data, by named protocol."""
