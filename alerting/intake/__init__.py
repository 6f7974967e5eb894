"""What others say: kept byte for byte, judged, understood, and turned into what a comune says of it."""
