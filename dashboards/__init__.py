"""What people look at. Deleting this package must not stop an alert."""
