"""Providers that are not there: their published protocol on a real socket, their limits, their bad days."""
