"""How to differentiate through a solve: one file a sensitivity, and what they share."""
