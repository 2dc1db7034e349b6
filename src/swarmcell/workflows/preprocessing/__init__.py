"""The two ways to a prepared file, RNA and cytometry, and what they share."""
