"""Every error that swarmcell raises on purpose. One branch of the tree, one exit code (`cli/` maps them).

::

    SwarmcellError
    ├── UsageError         options that contradict each other or ask for what is not there
    ├── InputError         a file is missing, unreadable, truncated or not of a known format
    ├── CellsError         the cells break the data contract: no donor, no counts, an unknown label, NaN
    │   └── PanelError     features do not fit: another universe, too little coverage
    ├── ConfigError        a TOML file with a missing, unknown or impossible value
    ├── ModelError         a model file is corrupt, or does not fit the cells
    │   └── MergeError     contributions cannot be merged
    ├── SwarmError         the swarm cannot go on, or this site cannot take part
    │   ├── TamperedError  a swarm file, an entry or a ledger is not what was signed
    │   └── EngineError    the log cannot be reached, read or written
    └── OutputError        the target exists, cannot be written, or the disk is full

A message says who, what was expected, what came, and what to do.
"""


class SwarmcellError(Exception):
    """Root of all errors that a user can meet; its text is shown without a traceback."""


class UsageError(SwarmcellError):
    """Options that contradict each other, or ask for what is not there."""


class InputError(SwarmcellError):
    """A file is missing, unreadable, truncated or not of a known format."""


class CellsError(SwarmcellError):
    """The cells break the data contract."""


class PanelError(CellsError):
    """Features do not fit: another universe, too little coverage."""


class ConfigError(SwarmcellError):
    """A TOML file with a missing, unknown or impossible value."""


class ModelError(SwarmcellError):
    """A model file is corrupt, or does not fit the cells."""


class MergeError(ModelError):
    """Contributions cannot be merged."""


class SwarmError(SwarmcellError):
    """The swarm cannot go on, or this site cannot take part."""


class TamperedError(SwarmError):
    """A swarm file, an entry or a ledger is not what was signed."""


class EngineError(SwarmError):
    """The log cannot be reached, read or written."""


class OutputError(SwarmcellError):
    """The target exists, cannot be written, or the disk is full."""
