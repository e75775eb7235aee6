"""Events: when a function of time and state changes sign, and what happens then."""
