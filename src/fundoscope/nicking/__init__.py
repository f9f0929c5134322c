"""Artery-vein nicking in adults' photographs (paper 002): vessels and their kinds, crossings, grades."""
