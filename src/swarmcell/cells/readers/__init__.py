"""From files to cells, one module per format; all give a `CountSource` whose values are read in blocks of rows."""

from swarmcell.cells.readers.sniff import is_cytometry, is_source, open_source, rna_matrix
from swarmcell.cells.readers.source import CountSource, ReadOptions

__all__ = ["CountSource", "ReadOptions", "is_cytometry", "is_source", "open_source", "rna_matrix"]
