"""Solving ODEs and differentiating through the solve; knows nothing of flows."""
