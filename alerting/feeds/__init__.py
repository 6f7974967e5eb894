"""What others publish for machines: asked for in time, read with care, never believed without a look."""
