"""A small world that is real all the way: rendered mp4 files, a tiny CLIP, STALE, a bundle, detections."""
