"""The linear probe: what two linear maps of the features find, and so what any other detector must beat."""
