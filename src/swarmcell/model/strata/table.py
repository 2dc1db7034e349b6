"""A site's samples as rows of features, before any scale: what goes into strata, and what must not be told apart by it.

Rules: blocks of features are scaled by one number each, their standard deviation over all samples of all sites, so that
each weighs the same; features within a block keep their proportions. Log-ratios, means of log expression and
transformed intensities are on scales of their own that need no more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from swarmcell.model.fixed import Floats
from swarmcell.model.sample_features import QUANTILES, Block

UNKNOWN = -1


@dataclass(frozen=True, eq=False)
class SampleTable:
    """Samples of one or several sites.

    Attributes
    ----------
    blocks
        Kinds of features, in order.
    features
        Shape `(n_samples, n_features)`, unscaled.
    sites, donors, samples
        Names of each sample's site, donor and specimen; they never leave the site.
    n_cells
        Cells of each sample, shape `(n_samples,)`.
    condition
        Index of each sample's condition, `UNKNOWN` where there is none.
    covariates
        Name -> index of the category, or number, of each sample; `UNKNOWN` or `nan` where it is not known.
    """

    blocks: tuple[Block, ...]
    features: Floats
    sites: tuple[str, ...]
    donors: tuple[str, ...]
    samples: tuple[str, ...]
    n_cells: npt.NDArray[np.int64]
    condition: npt.NDArray[np.int64]
    covariates: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def donor_keys(self) -> tuple[str, ...]:
        """`site/donor` of each sample."""
        return tuple(f"{site}/{donor}" for site, donor in zip(self.sites, self.donors, strict=True))

    @property
    def sample_keys(self) -> tuple[str, ...]:
        """`site/donor/sample` of each sample."""
        return tuple(f"{donor}/{sample}" for donor, sample in zip(self.donor_keys, self.samples, strict=True))

    @property
    def n_donors(self) -> int:
        """Number of donors."""
        return len(set(self.donor_keys))

    def at(self, rows: npt.NDArray[np.intp]) -> "SampleTable":
        """Return the samples at these rows."""
        return replace(
            self,
            features=self.features[rows],
            sites=tuple(self.sites[i] for i in rows),
            donors=tuple(self.donors[i] for i in rows),
            samples=tuple(self.samples[i] for i in rows),
            n_cells=self.n_cells[rows],
            condition=self.condition[rows],
            covariates={name: values[rows] for name, values in self.covariates.items()},
        )

    def by_site(self) -> "list[SampleTable]":
        """Return the samples of each site, by its name."""
        names = np.array(self.sites, object)
        return [self.at(np.flatnonzero(names == site)) for site in sorted(set(self.sites))]


def blocks_of(modality: str, cell_types: Sequence[str], ids: Sequence[str]) -> tuple[Block, ...]:
    """Return the blocks of features: composition where there are cell types, and pseudobulk or marker statistics."""
    parts = [Block("clr", tuple(cell_types))] if cell_types else []
    parts.append(Block("mean", tuple(ids)))
    if modality == "cytometry":
        parts.append(Block("sd", tuple(ids)))
        parts += [Block(f"q{level:g}", tuple(ids)) for level in QUANTILES]
    return tuple(parts)
