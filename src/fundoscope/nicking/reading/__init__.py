"""Crossings of one's own photographs to be graded by readers, and how far the readers and the tool agree. No torch."""
