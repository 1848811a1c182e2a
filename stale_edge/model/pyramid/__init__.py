"""What detectors of points on a pyramid of time scales share: levels, points, targets, losses."""
