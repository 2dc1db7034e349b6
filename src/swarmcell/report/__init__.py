"""What a person sees: console, figures, html. Takes results, computes none."""
