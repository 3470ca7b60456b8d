"""Finds faces in one picture: detector, landmarks, age and gender, and filtering by size, score and place."""
