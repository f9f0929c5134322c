"""Recipes of nicking: TOML files beside this module that hold every number of a training, and the models that check them.

`grades_*.toml` are those of studies of grades, `crossings_*.toml` of crossing detectors, `maps_*.toml` of the network of vessel
maps. `fundoscope.recipe_files` reads them.
"""
