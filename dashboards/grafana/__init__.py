"""The dashboard people keep open while an alert goes out."""
