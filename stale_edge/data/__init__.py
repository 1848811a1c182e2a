"""Annotations, features, class splits, and the checks that a data set needs before it is trained on."""

from stale_edge.data.annotations import (
    Action,
    Annotations,
    VideoAnnotation,
    read_annotations,
)
from stale_edge.data.check import Problem, check
from stale_edge.data.features import FeatureFolder, check_features, read_features, resample
from stale_edge.data.folder import (
    DataSet,
    VideoScore,
    open_data_set,
    read_feature_spec,
    read_public_layout,
    read_scores,
    write_feature_spec,
)
from stale_edge.data.public import read_public_annotations
from stale_edge.data.simulate import class_names, simulate
from stale_edge.data.splits import read_split

__all__ = [
    "Action",
    "Annotations",
    "DataSet",
    "FeatureFolder",
    "Problem",
    "VideoAnnotation",
    "VideoScore",
    "check",
    "check_features",
    "class_names",
    "open_data_set",
    "read_annotations",
    "read_feature_spec",
    "read_features",
    "read_public_annotations",
    "read_public_layout",
    "read_scores",
    "read_split",
    "resample",
    "simulate",
    "write_feature_spec",
]
