"""The linear probe: two linear maps of the features, a baseline for every other detector."""
