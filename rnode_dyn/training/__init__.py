"""Training a recipe's flow: objectives, the Lightning module, the run folder."""
