"""Networks; each states its own order of layers."""
