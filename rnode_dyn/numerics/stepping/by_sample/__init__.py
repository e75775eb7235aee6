"""Steps that every sample of a batch takes by itself, at a time of its own."""
