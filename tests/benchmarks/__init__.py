"""Measured, never asserted in a test: `make bench`, or one part alone with `make bench PART=idle`."""
