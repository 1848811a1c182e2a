"""The training-free detector: class names compared with snippets, without weights."""
