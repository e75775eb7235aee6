"""What lies in a run folder, and how it is written and read."""
