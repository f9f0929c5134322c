"""From logits to decisions: temperature, operating points, abstention, views of an eye, cascades, subgroups."""
