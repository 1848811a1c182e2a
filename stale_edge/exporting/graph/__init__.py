"""Graphs: record them from a network, rewrite them, and lower them to float16 and int8."""
