"""Accuracy on labelled data: NME, AP, MAE, and the evaluations that compute them."""
