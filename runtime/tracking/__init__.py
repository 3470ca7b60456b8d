"""Follows faces through a video: when frames are searched, which face is which, and where it moved."""
