"""The swarm file: public, readable, without a secret or an address; its canonical form is the genesis of a swarm.

Rules: `swarm create` reads a study's configuration (`SwarmConfig`) and writes the swarm file (`SwarmFile`), which holds
the same, resolved, with the founders' public keys and the digest of the genesis. A file whose content does not give
its digest is refused. All sites hold the same file, byte for byte in meaning: comments may differ.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tomli_w
from pydantic import Field, TypeAdapter, ValidationError

from swarmcell import __version__, formats
from swarmcell.config.base import FrozenModel, kind_of, parse, read_toml
from swarmcell.errors import ConfigError, TamperedError
from swarmcell.model.study import Study, canonical, unsaid
from swarmcell.node.identity import Card
from swarmcell.swarm import encoding
from swarmcell.swarm.genesis import Genesis, Member, quorum

Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_HEAD = """\
# The swarm file: the rules of one swarm and its founders' public keys. It holds no secret and no address.
# Every site needs this very file. A changed value changes the digest, and swarmcell refuses the file.
"""


class SwarmRules(FrozenModel):
    """How the swarm decides.

    Attributes
    ----------
    f
        Lying members that the swarm tolerates; needs `n >= 3f + 1` members.
    min_updates
        A round never closes with fewer updates; 0 takes the quorum.
    awaited_blocks
        A member with an update in one of the last so many merges is awaited.
    patience_s
        How long a peer waits for an awaited member at least, before it says in the log that it has waited long enough.
    """

    f: int = Field(default=0, ge=0)
    min_updates: int = Field(default=0, ge=0)
    awaited_blocks: int = Field(default=3, ge=1)  # chosen
    patience_s: float = Field(default=60.0, gt=0, le=1_000_000)  # chosen


class Founder(FrozenModel):
    """A founding member's name and public keys (hex)."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    signing_key: Hex32
    sealing_key: Hex32
    engine_key: Hex32

    @classmethod
    def of(cls, card: Card) -> "Founder":
        """Read a founder off a public card."""
        return cls(
            name=card.name,
            signing_key=card.signing_key.hex(),
            sealing_key=card.sealing_key.hex(),
            engine_key=card.engine_key.hex(),
        )


class SwarmConfig(FrozenModel):
    """What `swarm create` reads: a study, and how its swarm decides."""

    study: Study
    swarm: SwarmRules = SwarmRules()


class KnownBlock(FrozenModel):
    """A final block that an invitation vouches for: its height, and the digest of its body (hex)."""

    height: Annotated[int, Field(ge=0)]
    body: Hex32


class SwarmFile(FrozenModel):
    """What `swarm create` writes and every site reads.

    Attributes
    ----------
    format, made_by
        Number of the file's format, and the version of swarmcell that wrote it; they are no part of the digest.
    history
        Blocks that the invitation of a site that came late vouches for; they are no part of the digest.
    """

    format: int = formats.SWARM_FILE
    made_by: str = __version__
    digest: Hex32
    study: Study
    swarm: SwarmRules
    founders: tuple[Founder, ...]
    history: tuple[KnownBlock, ...] = ()

    def genesis(self) -> Genesis:
        """Return the genesis of this swarm."""
        return _genesis(self.study, self.swarm, self.founders)

    @property
    def pins(self) -> dict[int, bytes]:
        """Body digests by height of the blocks that are known: this site refuses another history."""
        return {block.height: bytes.fromhex(block.body) for block in self.history}


def load_config(path: Path) -> SwarmConfig:
    """Read a study's configuration; the files that it names, relative to it, become digests.

    These are `study.universe`, and `study.start`, a released model that learning starts from.

    Raises
    ------
    ConfigError, PanelError, InputError, ModelError
        If a value is missing, unknown or impossible, the universe is not a panel, or the start no model.
    """
    from swarmcell.cells import panel  # noqa: PLC0415 (who only reads a swarm file need not load what reads cells)
    from swarmcell.model import released  # noqa: PLC0415
    from swarmcell.model.stages import check_numbers  # noqa: PLC0415

    content = read_toml(path)
    if "study" not in content or "founders" in content:
        msg = f"{path}: {kind_of(content)}, expected a study's configuration, such as configs/swarm-rna.toml."
        raise ConfigError(msg)
    study = content.get("study", {})
    study = dict(study) if isinstance(study, dict) else study
    if isinstance(study, dict) and "universe" in study:
        study["universe_sha256"] = panel.load(path.parent / str(study.pop("universe"))).sha256
    if isinstance(study, dict) and "start" in study:
        study["start_sha256"] = released.load(path.parent / str(study.pop("start"))).digest
    config = parse({**content, "study": study}, SwarmConfig, source=str(path))
    try:
        check_numbers(config.study)
    except ConfigError as error:
        error.add_note(f"in {path}")
        raise
    return config


def create(config: SwarmConfig, cards: Sequence[Card]) -> SwarmFile:
    """Make the swarm file of these founders.

    Raises
    ------
    ConfigError
        If no swarm can run by these rules: too few founders for `f`, a key twice, `min_updates` over the quorum, more
        privacy spent than the budget.
    """
    from swarmcell.privacy import accountant  # noqa: PLC0415 (as in `load_config`)
    from swarmcell.privacy.secure_sum import SITES_MIN  # noqa: PLC0415 (as in `load_config`)

    founders = tuple(Founder.of(card) for card in cards)
    if config.study.privacy.secure_aggregation and len(founders) < SITES_MIN:
        msg = (
            f"[study.privacy] secure_aggregation needs {SITES_MIN} sites, got {len(founders)}: of two, each "
            "knows the other's part from the sum. Add founders, or set it to false."
        )
        raise ConfigError(msg)
    study = accountant.resolved(config.study)
    least = config.swarm.min_updates or quorum(len(founders), config.swarm.f)
    rules = config.swarm.model_copy(update={"min_updates": least})
    genesis = _genesis(study, rules, founders)
    return SwarmFile(digest=genesis.digest.hex(), study=study, swarm=rules, founders=founders)


def dump(swarm: SwarmFile) -> bytes:
    """Return the swarm file as TOML."""
    return (_HEAD + tomli_w.dumps(plain(swarm))).encode()


def plain(swarm: SwarmFile) -> dict[str, Any]:
    """Return what a swarm file holds as plain values, in its order."""
    content = swarm.model_dump(mode="json")
    study = _without_none(dataclasses.asdict(swarm.study))
    ordered = {
        "format": swarm.format,
        "made_by": swarm.made_by,
        "digest": swarm.digest,
        "study": study,
        "swarm": content["swarm"],
        "founders": content["founders"],
    }
    return ordered | ({"history": content["history"]} if swarm.history else {})


def load(path: Path) -> SwarmFile:
    """Read a swarm file and check its digest.

    Raises
    ------
    ConfigError
        If it is not a swarm file, or one of another format.
    TamperedError
        If its content does not give the digest that stands in it.
    """
    content = read_toml(path)
    if "invitation" in content:
        msg = (
            f"{path}: an invitation, not a swarm file. Accept it first: swarmcell swarm accept {path} --out swarm.toml"
        )
        raise ConfigError(msg)
    if "founders" not in content:
        msg = f"{path}: {kind_of(content)}, not a swarm file. Make one: swarmcell swarm create CONFIG --founder CARD"
        raise ConfigError(msg)
    refuse_other_format(content, path)
    return checked(parse(content, SwarmFile, source=str(path)), path, content)


def refuse_other_format(content: Mapping[str, Any], path: Path) -> None:
    """Refuse what another version of swarmcell wrote in another format.

    Raises
    ------
    ConfigError
        If `content` is a swarm file's, of a format that this version does not read.
    """
    remedy = "Go on with the version that made it, at every site, or found the swarm anew: swarmcell swarm create."
    maker, number = str(content.get("made_by", "")), content.get("format")
    said = formats.of_another_format(path, number, formats.SWARM_FILE, made_by=maker, remedy=remedy)
    if said:
        raise ConfigError(said)


def checked(swarm: SwarmFile, path: Path, content: Mapping[str, Any]) -> SwarmFile:
    """Return a swarm file whose `content`, as it was read, gives its digest.

    Raises
    ------
    ConfigError
        If it does not, and does not mention rules that this version has: another version made it.
    TamperedError
        If it does not.
    """
    found = swarm.genesis().digest.hex()
    if found != swarm.digest and (names := unsaid(content["study"], swarm.study)):
        msg = (
            f"{path}: made by a swarmcell {swarm.made_by} that did not know {', '.join(names)} among a study's rules; "
            f"this one is {__version__}. Go on with the version that made it, or found the swarm anew."
        )
        raise ConfigError(msg)
    if found != swarm.digest:
        msg = (
            f"{path}: changed after it was made: its content gives the digest {found[:16]}…, the file says "
            f"{swarm.digest[:16]}…. Ask whoever created the swarm for the file again."
        )
        raise TamperedError(msg)
    return swarm


def study_of(genesis: Genesis) -> Study:
    """Return the study whose canonical form the rules of a genesis hold."""
    rules = encoding.decode(genesis.rules)
    try:
        text = rules["study"] if isinstance(rules, Mapping) else None
        return TypeAdapter(Study).validate_json(str(text))
    except (KeyError, ValidationError) as error:
        msg = f"the rules of this genesis hold no study of this version of swarmcell ({error})"
        raise ConfigError(msg) from error


def _genesis(study: Study, rules: SwarmRules, founders: Sequence[Founder]) -> Genesis:
    try:
        return Genesis(
            name=study.name,
            rules=_rules(study, founders),
            founders=tuple(_member(founder) for founder in founders),
            f=rules.f,
            min_updates=rules.min_updates,
            awaited_blocks=rules.awaited_blocks,
            patience_ms=max(1, round(rules.patience_s * 1000)),
        )
    except encoding.EncodingError as error:
        msg = f"no swarm can run by these rules: {error}. Change [swarm] in the configuration, or the founders."
        raise ConfigError(msg) from error


def _rules(study: Study, founders: Sequence[Founder]) -> bytes:
    """Return the canonical bytes of what the pure core need not understand."""
    keys = [[bytes.fromhex(founder.signing_key), bytes.fromhex(founder.engine_key)] for founder in founders]
    return encoding.encode({"study": canonical(study), "engine_keys": keys})


def _member(founder: Founder) -> Member:
    return Member(
        name=founder.name,
        signing_key=bytes.fromhex(founder.signing_key),
        sealing_key=bytes.fromhex(founder.sealing_key),
    )


def _without_none(content: dict[str, Any]) -> dict[str, Any]:
    """Drop what TOML cannot say; the model's default says it."""
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in content.items()
        if value is not None
    }
