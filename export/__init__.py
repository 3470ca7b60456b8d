"""Trains networks in PyTorch and turns them into model files; torch, torchvision and onnx live only here."""
