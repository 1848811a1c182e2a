"""The whole path on one machine: simulate, train, evaluate, export, check, detect, bench, report."""

from stale_edge.demo.run import run_demo

__all__ = ["run_demo"]
