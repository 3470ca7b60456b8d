"""Reads labelled data sets, and makes inputs of real pictures from them."""
