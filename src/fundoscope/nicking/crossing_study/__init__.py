"""Crossing detectors (Mask R-CNN) and the network of vessel maps: training, settings, figures, report."""
