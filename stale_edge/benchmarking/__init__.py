"""Latency, memory and multiply-accumulates per video length; rows take turns, each in its own process."""

from stale_edge.benchmarking.benchmark import run_benchmark
from stale_edge.benchmarking.lengths import parse_lengths
from stale_edge.benchmarking.run_comparison import Change, Comparison, compare_results, read_results
from stale_edge.benchmarking.table import COLUMNS, machine_line, table_rows

__all__ = [
    "COLUMNS",
    "Change",
    "Comparison",
    "compare_results",
    "machine_line",
    "parse_lengths",
    "read_results",
    "run_benchmark",
    "table_rows",
]
