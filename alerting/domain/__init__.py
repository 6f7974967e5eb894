"""The trade itself, pure: no I/O, no clock, no framework."""
