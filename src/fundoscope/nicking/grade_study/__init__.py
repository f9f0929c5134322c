"""The study of grades (paper 002, sections 5.3 and 6). `run` tells its way, a file a step.

Beside the steps: `patch_table`, `folds`, `transfer` and `study_arms` say what is compared on what; `patch_pixels`,
`perturbed`, `batches`, `grade_networks` and `rivals` serve the steps; `refit` trains the graders that ship, `detection`
repeats the paper's second detection step; `nicked_patches` and `natural_crossings` draw the patches to learn from.
"""
