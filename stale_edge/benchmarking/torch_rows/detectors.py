"""PyTorch rows in eager mode, and what all PyTorch rows share: detectors with random weights, inputs, threads."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from stale_edge.benchmarking.jobs import Job, Workload
from stale_edge.benchmarking.network_sizes import Network
from stale_edge.benchmarking.synthetic import random_features
from stale_edge.decoding import decoder_of
from stale_edge.model.architectures import architecture_of, build_model
from stale_edge.model.detector import Detector
from stale_edge.model.folding import fold_detector
from stale_edge.segments import FloatArray


def build_detector(network: Network, *, seed: int) -> nn.Module:
    """Build the detector with random weights, in eval mode."""
    torch.manual_seed(seed)
    return build_model(network.model).eval()


class ForDecoding(nn.Module):
    """Runs a detector and returns some of its outputs; a compiler removes work that only the others need.

    Args:
        detector: folded or not, in eval mode.
        reads: names of the outputs, in the order in which they are returned.
    """

    def __init__(self, detector: nn.Module, reads: Sequence[str]) -> None:
        super().__init__()
        self.whole = detector
        self.reads = tuple(reads)

    def forward(self, features: Tensor, class_embeddings: Tensor) -> tuple[Tensor, ...]:
        """Run features (B, T, C) and class embeddings (K, D)."""
        output = self.whole(features, class_embeddings)
        return tuple(getattr(output, name) for name in self.reads)


def read_outputs(detector: Detector) -> tuple[str, ...]:
    """Name the outputs of a detector that decoding reads."""
    decoder = decoder_of(architecture_of(detector.config.architecture).decode)
    names = [spec.name for spec in detector.output_specs()]
    return tuple(name for name in names if name in decoder.reads + decoder.may_read)


class InPrecision(nn.Module):
    """Runs a module in fp16 or bf16 with float32 inputs and outputs, like the exported files."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module, self.dtype = module.to(dtype), dtype

    def forward(self, features: Tensor, class_embeddings: Tensor) -> tuple[Tensor, ...]:
        """Run features (B, T, C) and class embeddings (K, D), float32."""
        outputs = self.module(features.to(self.dtype), class_embeddings.to(self.dtype))
        return tuple(tensor.float() for tensor in outputs)


@contextlib.contextmanager
def written_out_attention() -> Iterator[None]:
    """Compute every attention of torch as product, softmax and product, each stored: no fused kernel, no fast path."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def weight_bytes(module: nn.Module) -> int:
    """Return the bytes of all parameters and buffers."""
    tensors = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def set_threads(n: int) -> None:
    """Run torch on `n` CPU threads, without gradients."""
    torch.set_num_threads(n)
    torch.set_num_interop_threads(n)
    torch.set_grad_enabled(False)


def network_of(job: Job) -> Network:
    """Return the network of a job.

    Raises:
        ValueError: the job has none.
    """
    if job.network is None:
        raise ValueError(f"a {job.variant} row of PyTorch needs a network; the job has none")
    return job.network


def random_inputs(job: Job, network: Network) -> tuple[Tensor, Tensor]:
    """Make features (1, T, C) and class embeddings (K, D)."""
    features = random_features(job.length, network.model.feature_channels, seed=job.seed)
    classes = random_features(network.n_classes, network.model.embed_dim, seed=job.seed + 1)
    return torch.from_numpy(features)[None], torch.from_numpy(classes)


def call_of(forward: Callable[..., object], *inputs: Tensor) -> Callable[[], object]:
    """Make the call that is timed: `forward(*inputs)` in inference mode."""

    def call() -> object:
        with torch.inference_mode():
            return forward(*inputs)

    return call


def detector_workload(job: Job) -> Workload:
    """Run the detector: folded, or as it was trained."""
    set_threads(job.threads)
    network = network_of(job)
    detector = build_detector(network, seed=job.seed)
    if job.variant == "detector":
        detector = fold_detector(detector)
    detector = detector.to(job.device)
    if job.precision == "fp16":
        detector = InPrecision(detector, torch.float16)
    inputs = (tensor.to(job.device) for tensor in random_inputs(job, network))
    return Workload(call_of(detector, *inputs), weight_bytes(detector))


def product_call(job: Job, left: FloatArray, right: FloatArray) -> Callable[[], object]:
    """Multiply two square matrices in the job's precision on its device."""
    torch.set_num_threads(job.threads)
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(job.precision, torch.float32)
    a, b = (torch.from_numpy(array).to(job.device, dtype) for array in (left, right))
    result = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=result)
