"""Figures and files for people: curves and timelines (matplotlib, when called), JSON, CSV, subtitles, HTML."""
