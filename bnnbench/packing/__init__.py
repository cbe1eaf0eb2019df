"""Making a packed network of a trained one: see :mod:`bnnbench.packed` for what runs it."""
