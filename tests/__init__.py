"""Tests: unit, contract, integration, end to end; and benchmarks, which are measured and never asserted."""
