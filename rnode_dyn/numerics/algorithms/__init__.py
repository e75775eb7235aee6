"""How to step: methods, each a tableau, an order and a citation, and what they share."""
