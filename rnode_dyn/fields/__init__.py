"""Vector fields f(t, x)."""
