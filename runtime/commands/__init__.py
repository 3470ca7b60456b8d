"""Commands for devices: webcam, predict, engine, info, doctor."""
