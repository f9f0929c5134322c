"""How well crossings are found, and where activation maps lie: matching, COCO scores, pointing."""
