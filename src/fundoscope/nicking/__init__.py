"""Artery-vein nicking in adults' photographs (paper 002): arteries and veins, crossings, widths, grades."""
