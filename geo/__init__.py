"""Where things are: shapes, areas, and who is inside."""
