"""From a picture or a stream of frames to faces: detection, tracking, landmarks, age and gender in one object."""
