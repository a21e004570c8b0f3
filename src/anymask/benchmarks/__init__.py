"""Benchmarks: builders of their data and the protocols under which they are measured."""
