"""Tracks faces through a video: schedules detections, associates them with tracks, and follows motion."""
