"""A bundle's temperature and thresholds set anew on labelled photographs of another place; no torch.

answers   what the bundle says of each photograph of the cohort, as screening says it
fit       temperature and thresholds, the bound that infants support, and the cross-fitted figures
run       cohort and bundle in, bundle out
"""
