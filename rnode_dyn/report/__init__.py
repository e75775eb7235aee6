"""Pictures of what a flow has learned."""
