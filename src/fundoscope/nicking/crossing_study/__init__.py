"""Studies of crossing detectors (Mask R-CNN), and the training of the network of vessel maps with its settings."""
