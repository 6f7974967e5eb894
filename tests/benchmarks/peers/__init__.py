"""What people would use instead of us, given the same work on the same machine: `python -m tests.benchmarks.peers`."""
