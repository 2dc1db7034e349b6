"""The numbers of swarmcell's own file formats, and what is said of a file of another one.

Rules: a number is raised by one whenever this version would read an older file wrongly or not at all, or an older
version would so read a new one; for a swarm file also when the canonical form of a study changes. A test holds that.
"""

from swarmcell import __version__

SWARM_FILE = 2  # 1: none was written in the file
MODEL = 2  # 1: two keys of metadata, whose order changed from process to process
STRATA = 3  # 1: without clusters of cells and the test of a split; 2: small counts followed from totals
LEDGER = 1  # 0: none was written in the file


def of_another_format(what: object, found: object, reads: int, *, made_by: str = "", remedy: str) -> str | None:
    """Return the sentence about a file of another format; `None` where this version reads it.

    Parameters
    ----------
    what
        The file, as an error names it.
    found
        The number that stands in it; `None` for one that was made before there were numbers.
    reads
        The number that this version reads.
    made_by
        Version of swarmcell that made the file, where it says so.
    remedy
        What to do about a file of an older format; a newer one asks for a newer swarmcell.
    """
    if found == reads and not isinstance(found, bool):
        return None
    maker = f"swarmcell {made_by}" if made_by else "another version of swarmcell"
    number = "without a format number" if found is None else f"in format {found}"
    newer = isinstance(found, int) and found > reads
    return (
        f"{what}: made by {maker} {number}; this one ({__version__}) reads format {reads}. "
        f"{'Update swarmcell: all sites of a swarm run the same version.' if newer else remedy}"
    )
