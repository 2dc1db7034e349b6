"""FCS 2.0, 3.0, 3.1 and 3.2 files: what flow, mass and spectral cytometers write.

`header`, `text`, `keywords` and `layout` say what a file holds; `values` turns its bytes into float32; `read` is the
door.
"""

from swarmcell.cells.fcs.layout import Channel
from swarmcell.cells.fcs.read import DataSet, data_sets, only_data_set, read_events

__all__ = ["Channel", "DataSet", "data_sets", "only_data_set", "read_events"]
