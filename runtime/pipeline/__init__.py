"""The whole pipeline in one object: detection, tracking, landmarks, age and gender."""
