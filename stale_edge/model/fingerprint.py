"""Fingerprints: hashes of weights and of whatever else decides an embedding."""

import hashlib

from torch import Tensor


def hash_tensors(tensors: dict[str, Tensor], extra: bytes) -> str:
    """Hash named tensors and further bytes; `sha256:` and hexadecimal."""
    digest = hashlib.sha256(extra)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"
