"""What an evaluation is made of: held-out donors, scores, figures with intervals, the portrait of cells, sentences."""
