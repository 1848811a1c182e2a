"""ActionFormer in PyTorch: a pyramid of local attention whose every point proposes one segment per class.

Zhang, Wu, Li: ActionFormer, ECCV 2022, arXiv:2202.07925. Written from a specification of the public program
(happyharrycn/actionformer_release, commit 61ea7eb); its weights load, see `public_weights`.
"""

from stale_edge.model.actionformer.network import ActionFormer
from stale_edge.model.actionformer.settings import NAMED_SETTINGS, ActionFormerConfig
from stale_edge.model.pyramid.output import PointOutput

__all__ = ["NAMED_SETTINGS", "ActionFormer", "ActionFormerConfig", "PointOutput"]
