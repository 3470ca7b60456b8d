"""From a picture or a stream of frames to faces: detect, locate landmarks, track, smooth, estimate age and gender."""
