"""The network as it was trained, written by PyTorch's exporter and run by ONNX Runtime with default settings."""

import tempfile
import warnings
from pathlib import Path
from typing import Any, cast

import onnxruntime
import torch
from torch import Tensor, nn

from stale_edge.benchmarking.jobs import Job, Workload
from stale_edge.benchmarking.output_check import class_axis, compare_outputs
from stale_edge.benchmarking.torch_rows.detectors import build_detector, network_of, random_inputs, set_threads
from stale_edge.model.detector import Detector


def plain_export(network: nn.Module, inputs: tuple[Tensor, Tensor], path: Path) -> None:
    """Write a network to ONNX for the shapes of its inputs, features (1, T, C) and class embeddings (K, D)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about torch's own code
        torch.onnx.export(
            network,
            inputs,
            path,
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=["features", "class_embeddings"],
            output_names=list(network(*inputs)._fields),
        )


def plain_export_workload(job: Job) -> Workload:
    """Export the detector for one length and a batch of one, not folded, and run the file.

    Raises:
        StaleEdgeError: the file's outputs are not those of the network.
    """
    set_threads(job.threads)
    network = network_of(job)
    trained = build_detector(network, seed=job.seed)
    inputs = random_inputs(job, network)
    specs = cast(Detector, trained).output_specs()
    with tempfile.TemporaryDirectory(prefix="stale-edge-plain-") as folder:
        path = Path(folder) / "plain.onnx"
        plain_export(trained, inputs, path)
        n_bytes = path.stat().st_size
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job.threads
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    fed = dict(zip(("features", "class_embeddings"), (tensor.numpy() for tensor in inputs), strict=True))
    names = [spec.name for spec in specs]
    with torch.inference_mode():
        whole = trained(*inputs)
    expected: dict[str, Any] = {name: getattr(whole, name).numpy() for name in names}
    got = dict(zip(names, session.run(names, fed), strict=True))
    compare_outputs(expected, got, axis=class_axis(specs), precision="fp32", what="plain export")
    return Workload(lambda: session.run(None, fed), n_bytes)
