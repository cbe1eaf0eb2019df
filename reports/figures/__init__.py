"""The figures of the report, one file each: a pure ``info`` and a drawing of it."""
