"""Data sets, read from their canonical files or embedded in a library."""
