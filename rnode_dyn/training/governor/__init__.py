"""The fewest steps a block at which a flow stays solved while it trains."""
