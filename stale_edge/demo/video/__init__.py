"""The demo on rendered videos: mp4 files, a tiny CLIP, a detector, a bundle, detections."""
