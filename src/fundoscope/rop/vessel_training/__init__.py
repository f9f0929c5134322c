"""Training of the network that maps the vessels and the disc of infants' photographs, and the file of it that ships."""
