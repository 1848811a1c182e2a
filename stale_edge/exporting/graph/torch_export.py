"""PyTorch detector -> a .pt2 file of torch.export, the successor of TorchScript in PyTorch."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from stale_edge.exporting.graph.detector_graph import (
    DetectorGraph,
    dynamic_axes,
    example_inputs,
    in_eval_mode,
    model_config,
)
from stale_edge.exporting.graph.rewriting import WeightCount
from stale_edge.exporting.graph.torchscript import METADATA_FILE

_TRACES = ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node")
"""Keys of a node's metadata about its source code, with paths of this machine."""


def save_torch_export(model: nn.Module, path: Path, *, metadata: Mapping[str, str]) -> WeightCount:
    """Record a detector with torch.export and write one file that holds graph, weights and metadata.

    Args:
        model: detector of this package, on the CPU, float32; it is not changed.
        path: the file, ending in `.pt2`.
        metadata: metadata stored in the extra file `METADATA_FILE`.

    Raises:
        ValueError: the model cannot be deployed.
    """
    config = model_config(model)
    graph = DetectorGraph(model)
    with in_eval_mode(graph):
        program = torch.export.export(graph, example_inputs(config), dynamic_shapes=dynamic_axes(config), strict=False)
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                for key in _TRACES:
                    node.meta.pop(key, None)
    torch.export.save(program, path, extra_files={METADATA_FILE: json.dumps(dict(metadata), ensure_ascii=False)})
    weights = [weight for weight in program.state_dict.values() if weight.ndim >= 2]
    numbers = sum(math.prod(weight.shape) for weight in weights)
    return WeightCount(len(weights), 0, numbers, 0, stored_bytes=4 * numbers)
