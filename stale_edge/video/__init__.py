"""Reading videos: pictures by presentation time, CLIP's preprocessing, and snippet features. Torch-free."""

from stale_edge.video.preprocess import ClipPreprocess
from stale_edge.video.sampling import (
    Snippet,
    VideoWarning,
    read_frames,
    sample,
    snippet_rate,
    watch_video,
)
from stale_edge.video.similar import SimilarPictures
from stale_edge.video.snippet_features import (
    FrameEncoder,
    FrameSettings,
    Timings,
    VideoFeatures,
    extract_features,
    open_sampled,
    prepare_fast,
    snippet_features,
)
from stale_edge.video.source import VIDEO_SUFFIXES, Picture, VideoSource, open_video
from stale_edge.video.thumbnails import StripPicture, ThumbnailStrip

__all__ = [
    "VIDEO_SUFFIXES",
    "ClipPreprocess",
    "FrameEncoder",
    "FrameSettings",
    "Picture",
    "SimilarPictures",
    "Snippet",
    "StripPicture",
    "ThumbnailStrip",
    "Timings",
    "VideoFeatures",
    "VideoSource",
    "VideoWarning",
    "extract_features",
    "open_sampled",
    "open_video",
    "prepare_fast",
    "read_frames",
    "sample",
    "snippet_features",
    "snippet_rate",
    "watch_video",
]
