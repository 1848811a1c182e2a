"""Decoding as ONNX nodes: outputs of a detector to segments, inside its graph."""
