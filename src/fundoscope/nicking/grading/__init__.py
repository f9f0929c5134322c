"""Photograph -> vessel maps -> crossings -> widths -> patches -> grades. No torch."""
