"""One file per provider: how to hand it a text, and what its answers mean."""
