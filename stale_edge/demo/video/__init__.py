"""The demo on rendered videos: mp4 files, a tiny CLIP, STALE, a bundle, detections."""
