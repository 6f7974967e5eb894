"""One machine playing all parts: a demo to watch, a stack to try, and the servers both stand on."""
