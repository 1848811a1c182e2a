"""Graphs: recorded from a network, rewritten, and lowered to half precision and int8."""
