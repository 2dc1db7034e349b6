"""From files to cells: readers, schema, qc, transform, panel, statistics, split, batches."""
