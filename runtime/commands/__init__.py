"""The commands that a device needs: webcam, predict, engine, info, doctor."""
