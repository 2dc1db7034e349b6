"""The rules of a study: what is learnt, from which features, in which stages, and when to stop.

Rules: every value here stands in the genesis of a swarm, so all sites learn by the same ones; a local run uses the
same class. Nothing here names a file, a site or a machine.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any, Literal

StageName = Literal["features", "cell", "clusters", "patient"]
MergeName = Literal[
    "exact-sum",
    "noised-sum",
    "fedavg",
    "fedprox",
    "scaffold",
    "fednova",
    "fedadam",
    "median",
    "trimmed-mean",
    "multi-krum",
    "geometric-median",
]
EXACT: MergeName = "exact-sum"
NOISED: MergeName = "noised-sum"
_STRICT = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class FeatureRule:
    """How the panel is chosen from the universe.

    Attributes
    ----------
    rule
        `all` keeps the whole universe. `top_variance` keeps the `n_top` features with the largest swarm-wide variance
        of X. `seurat_v3` keeps the `n_top` genes that `scanpy.pp.highly_variable_genes(flavor="seurat_v3")` finds in
        all sites' raw counts together. `seurat_v3_by_site` lets each site rank its own genes, and keeps those that the
        most sites rank among their `n_top`. The last two need raw counts.
    n_top
        Features of the panel.
    scaling
        `swarm`: the model's first layer is the mean and SD of all sites' training cells. `site`: each site's cells are
        first moved to these from its own mean and SD; costs accuracy where sites hold different types.
    """

    __pydantic_config__ = _STRICT

    rule: Literal["all", "top_variance", "seurat_v3", "seurat_v3_by_site"] = "all"
    n_top: int = 2000  # chosen: the usual number of highly-variable genes in scanpy's tutorials
    scaling: Literal["swarm", "site"] = "swarm"

    @property
    def needs_counts(self) -> bool:
        """Whether the rule reads raw counts."""
        return self.rule in {"seurat_v3", "seurat_v3_by_site"}


@dataclass(frozen=True, kw_only=True)
class FitRule:
    """How one stage's classifier is fitted and merged.

    `exact-sum` fits the linear model to all sites' cells as if they lay in one place (class-balanced, by sums of loss
    and gradient); `noised-sum` follows sums of clipped gradients with noise (`DifferentialPrivacy`); the other merges
    combine what sites fitted by themselves. See docs/merges.md.
    """

    __pydantic_config__ = _STRICT

    model: Literal["linear", "mlp", "attention", "top_k"] = (
        "linear"  # the last two: patients, by their cells themselves
    )
    hidden: int = 64  # units of the hidden layer, of all but `linear`; chosen
    merge: MergeName = EXACT
    epochs_per_round: int = 1
    steps_per_round: int = 0  # batches of local training; 0: `epochs_per_round` passes over the site's own rows
    batch_rows: int = 256
    learning_rate: float = 0.0  # 0: `step_length`'s own
    momentum: float = 0.9  # of local descent; measured: with 0 twice the rounds, and Adam falls far behind under skew
    l2: float = 1e-3  # on the coefficients, never the intercept; measured: 1e-4 to 1e-2 do alike on three real sets
    tolerance: float = 2e-10  # largest slope at the end of `exact-sum`; measured: probabilities are then within 6e-7
    proximal: float = 0.01  # `fedprox`: pull towards the round's start; Li et al. try 0.001 to 1
    server_rate: float = 0.01  # `fedadam`: length of its step; measured: 0.70, 0.59, 0.61 macro-F1 at 0.01, 0.03, 0.1
    noised_rate: float = 4.0  # `noised-sum`: length of its step; measured: 4 and 10 do alike on three real sets
    hostile: int = 1  # `trimmed-mean`, `multi-krum`: sites to withstand
    rounds_max: int = 0  # 0: 1000 for `exact-sum`, 30 for `noised-sum`, 60 for the others
    patience_rounds: int = 5  # rounds without a better swarm-wide validation loss before the stage ends

    @property
    def descends(self) -> bool:
        """Whether sites train by gradient descent with momentum; those who learn from bags of cells, by Adam."""
        return self.model in ("linear", "mlp") or self.merge in ("scaffold", "fednova")

    @property
    def step_length(self) -> float:
        """The learning rate; measured for descent: 0.02 to 0.1 do alike on four real sets, 100 to 2,500 genes."""
        return self.learning_rate or (0.05 if self.descends else 0.01)

    @property
    def rounds_limit(self) -> int:
        """The number of rounds after which the stage ends in any case."""
        return self.rounds_max or _ROUNDS.get(self.merge, 60)


_ROUNDS = {EXACT: 1000, NOISED: 30}  # measured: 60 to 200 to the tolerance; 15, 30 and 60 noised ones do alike


@dataclass(frozen=True, kw_only=True)
class ClusterRule:
    """How cells are clustered, where nobody has told their types (stage `clusters`).

    Attributes
    ----------
    n
        Number of clusters.
    cells_per_sample
        At most so many cells of each sample, evenly spread over it, make the clusters; all are assigned to them.
    n_features
        Features of the panel, those that vary most.
    components
        Principal components, at most.
    starts
        Runs of k-means, of which the tightest is kept.
    rounds_max
        Rounds of k-means, in all.
    """

    __pydantic_config__ = _STRICT

    n: int = 15  # chosen: PBMC have about so many types; too many split a type, and composition then still counts it
    cells_per_sample: int = 500  # chosen
    n_features: int = 1000
    components: int = 30  # chosen, as is common for neighbours in scanpy's tutorials
    starts: int = 8
    rounds_max: int = 60


@dataclass(frozen=True, kw_only=True)
class Floors:
    """Below these a site publishes no sum."""

    __pydantic_config__ = _STRICT

    donors: int = 5
    cells: int = 20


@dataclass(frozen=True, kw_only=True)
class DifferentialPrivacy:
    """What the swarm may publish about one unit, and the noise that holds it to that. See docs/data-protection.md.

    Attributes
    ----------
    unit
        Who is protected: `donor`, all cells of a person at a site; or `cell`, each cell by itself and not the person.
    epsilon, delta
        The budget of the whole study, for every unit of every site; neighbours differ in one unit being there or not.
    clip
        L2 bound of a unit's gradient. Inputs are scaled so that a typical cell's squares add up to 1.
    sampling
        Chance that a unit takes part in a round.
    statistics_share
        Share of the budget for the stage `features`: numbers of units and classes, means and spreads.
    bound
        Root mean square of a cell's features beyond which it is scaled down for those means.
    noise_multiplier, statistics_multiplier
        Standard deviation of the noise in a round of fitting, and of `features`, per largest influence of a unit. 0:
        found from the budget when the swarm is created; every site checks them against it before it joins.
    """

    __pydantic_config__ = _STRICT

    unit: Literal["donor", "cell"]
    epsilon: float = 8.0  # chosen: the largest that is commonly called protection
    delta: float = 1e-5  # chosen: below one in the number of units
    clip: float = 1.0  # chosen: only what is classified wrongly for sure reaches it
    sampling: float = 1.0
    statistics_share: float = 0.1  # measured: 0.05, 0.1 and 0.2 do alike
    bound: float = 1.0  # chosen: log1p CP10k of a panel has 0.7 to 1.5; measured: 1 does better than 2 on few cells
    noise_multiplier: float = 0.0
    statistics_multiplier: float = 0.0


@dataclass(frozen=True, kw_only=True)
class PrivacyRule:
    """What is hidden from the other members, and from whoever reads the model.

    Attributes
    ----------
    secure_aggregation
        Members see sums over sites only, never one site's part. Needs three sites, and merges that are sums or
        averages.
    cell_digests
        Each site shows the other members digests of some cells of each training donor, so that a held-out person whom
        another site trained on under another name is found. docs/data-protection.md says what it gives away.
    differential_privacy
        Everything that leaves a site is clipped and noised, within a budget; `None`: nothing is.
    """

    __pydantic_config__ = _STRICT

    secure_aggregation: bool = False
    cell_digests: bool = False
    differential_privacy: DifferentialPrivacy | None = None


@dataclass(frozen=True, kw_only=True)
class StrataRule:
    """How strata of patients are looked for (`swarmcell stratify`).

    Attributes
    ----------
    cell_model
        Digest of the model whose cell types are counted; empty: the labels of `cell_types`, or no composition at all.
    k_max
        Largest number of strata that is tried.
    starts, resamples, nulls
        Starts of k-means (resamples and twins have a twentieth of them), resamples of donors, and null twins.
    n_genes
        Pseudobulk features kept, those that vary most over samples (RNA).
    components_max, variance_share
        As few components as hold this share of the variance, at most so many.
    permutations
        Of the tests of association.
    centre_sites
        Take each site's mean away before strata are looked for: against shifts between sites, at the price of every
        true difference between their patients.
    covariates
        Name -> its categories, in order; none for a number.
    """

    __pydantic_config__ = _STRICT

    cell_model: str = ""
    k_max: int = 6
    starts: int = 100  # measured: the optimum of scikit-learn's best of 50 (docs/stratification.md)
    resamples: int = 20
    nulls: int = 99  # the smallest p is then 0.01; 39 leave 12 donors too few to tell
    n_genes: int = 500  # as DESeq2's plotPCA
    components_max: int = 10
    variance_share: float = 0.8
    permutations: int = 999
    centre_sites: bool = False
    covariates: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Study:
    """The rules of one study. `cell_types` and `conditions` are the label vocabularies, in order."""

    __pydantic_config__ = _STRICT

    name: str
    modality: Literal["rna", "cytometry"]
    stages: tuple[StageName, ...] = ("features", "cell", "patient")
    cell_types: tuple[str, ...] = ()
    cell_type_ids: tuple[str, ...] = ()  # Cell Ontology, one per type ("CL:0000236"; "" where there is none); or none
    conditions: tuple[str, ...] = ()
    universe_sha256: str = ""  # hex; of the ordered feature file that all sites preprocessed with
    start_sha256: str = ""  # hex; digest of the released model that learning starts from; empty: from nothing
    features: FeatureRule = field(default_factory=FeatureRule)
    cell: FitRule = field(default_factory=FitRule)
    patient: FitRule = field(default_factory=lambda: FitRule(epochs_per_round=20, batch_rows=64, l2=1e-2))
    clusters: ClusterRule = field(default_factory=ClusterRule)
    floors: Floors = field(default_factory=Floors)
    privacy: PrivacyRule = field(default_factory=PrivacyRule)
    seed: int = 0
    strata: StrataRule | None = None  # set: this is a study of strata, not of classifiers

    @property
    def counted_types(self) -> tuple[str, ...]:
        """What the composition of a sample counts: cell types; or clusters of cells, the largest first; or nothing."""
        if "clusters" in self.stages:
            return tuple(f"cluster {i + 1}" for i in range(self.clusters.n))
        return self.cell_types if "cell" in self.stages or self.strata is not None else ()


def canonical(study: Study) -> str:
    """Return the study's rules as JSON, the same for the same rules; a rule that came late and is off is left out."""
    plain = asdict(study)
    if not study.privacy.cell_digests:
        del plain["privacy"]["cell_digests"]
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)


def rules_digest(study: Study) -> str:
    """Return the SHA-256 (hex) of the study's rules."""
    return sha256(canonical(study).encode()).hexdigest()


def unsaid(fields: Mapping[str, Any], study: Study) -> list[str]:
    """Return the rules of `study` that `fields`, a study as some version of swarmcell wrote it, does not mention."""
    return [name for name in _names(asdict(study)) if name not in set(_names(fields))]


def _names(fields: Mapping[str, Any], before: str = "") -> list[str]:
    """Return the dotted names of all rules that have a value."""
    inner = {name: value for name, value in fields.items() if isinstance(value, Mapping) and name != "covariates"}
    outer = [before + name for name, value in fields.items() if value is not None and name not in inner]
    return outer + [one for name, value in inner.items() for one in _names(value, f"{before}{name}.")]


def from_plain(fields: Mapping[str, Any]) -> Study:
    """Return the study of `dataclasses.asdict(study)`, also after a journey through JSON (lists for tuples).

    Raises
    ------
    TypeError
        If a key is missing or unknown.
    """
    rest: dict[str, Any] = dict(fields)
    rest["features"] = FeatureRule(**rest["features"])
    rest["cell"], rest["patient"] = FitRule(**rest["cell"]), FitRule(**rest["patient"])
    rest["clusters"] = ClusterRule(**rest.get("clusters", {}))
    rest["floors"], rest["privacy"] = Floors(**rest["floors"]), _privacy(rest["privacy"])
    if (strata := rest.get("strata")) is not None:
        covariates = {name: tuple(categories) for name, categories in strata["covariates"].items()}
        rest["strata"] = StrataRule(**{**strata, "covariates": covariates})
    for name in ("stages", "cell_types", "cell_type_ids", "conditions"):
        rest[name] = tuple(rest.get(name, ()))
    return Study(**rest)


def _privacy(fields: Mapping[str, Any]) -> PrivacyRule:
    rest = dict(fields)
    if (private := rest.get("differential_privacy")) is not None:
        rest["differential_privacy"] = DifferentialPrivacy(**private)
    return PrivacyRule(**rest)
