"""Finds faces in one picture: detector, landmarks, age and gender, and the choice of faces."""
