"""How far to step: fixed steps, or steps chosen by their estimated error."""
