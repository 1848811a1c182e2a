"""Annotations, features, class splits, and the checks of a data set before training."""

from stale_edge.data.annotations import (
    Action,
    Annotations,
    VideoAnnotation,
    read_annotations,
)
from stale_edge.data.check import Problem, check
from stale_edge.data.feature_files import FeatureFolder, check_features, open_features, read_features, resample
from stale_edge.data.folder import (
    DataSet,
    open_data_set,
    read_feature_spec,
    read_public_layout,
    write_feature_spec,
)
from stale_edge.data.one_class import ONE_CLASS, as_one_class
from stale_edge.data.public import read_public_annotations
from stale_edge.data.scores import VideoScore, read_class_scores, read_score_array, read_scores, write_scores
from stale_edge.data.simulate import class_names, simulate
from stale_edge.data.splits import read_split, read_video_list

__all__ = [
    "ONE_CLASS",
    "Action",
    "Annotations",
    "DataSet",
    "FeatureFolder",
    "Problem",
    "VideoAnnotation",
    "VideoScore",
    "as_one_class",
    "check",
    "check_features",
    "class_names",
    "open_data_set",
    "open_features",
    "read_annotations",
    "read_class_scores",
    "read_feature_spec",
    "read_features",
    "read_public_annotations",
    "read_public_layout",
    "read_score_array",
    "read_scores",
    "read_split",
    "read_video_list",
    "resample",
    "simulate",
    "write_feature_spec",
    "write_scores",
]
