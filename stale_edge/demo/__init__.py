"""The whole path on one machine, on data made on the spot.

`run` works on simulated features, `video.run` on rendered videos. Nothing is imported here: the processes that render
videos import this package and must not import torch.
"""
