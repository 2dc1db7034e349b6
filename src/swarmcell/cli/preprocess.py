"""`swarmcell preprocess`."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from swarmcell.cli.common import Debug, Force, Json, Quiet, bars, console, next_command, print_json, say

_KEYS = ("donor", "sample", "condition", "cell_type")


def preprocess(  # noqa: PLR0917 (options are arguments)
    source: Annotated[Path, typer.Argument(help="A file or folder: 10x mtx or h5, h5ad, zarr, loom, csv, FCS.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The prepared file to write: .h5ad or .zarr.")],
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="A TOML file; options win over it, it over their defaults.")
    ] = None,
    modality: Annotated[str | None, typer.Option("--modality", help="rna or cytometry.  [default: rna]")] = None,
    donor_key: Annotated[str | None, typer.Option("--donor-key", help="Column of the donor.  [default: donor]")] = None,
    sample_key: Annotated[
        str | None, typer.Option("--sample-key", help="Column of the sample (specimen).  [default: sample]")
    ] = None,
    condition_key: Annotated[
        str | None, typer.Option("--condition-key", help="Column of the patient label.  [default: condition]")
    ] = None,
    cell_type_key: Annotated[
        str | None, typer.Option("--cell-type-key", help="Column of the cell label.  [default: cell_type]")
    ] = None,
    site: Annotated[str | None, typer.Option("--site", help="The site's name.  [default: the source's]")] = None,
    sheet: Annotated[
        list[Path] | None,
        typer.Option("--sheet", help="Sheet of samples (file, donor, ...) or cells (barcode, ...); may be repeated."),
    ] = None,
    universe: Annotated[
        Path | None,
        typer.Option("--universe", help="The study's feature file (.json).  [default: the features of the source]"),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split", help="within-site, by-site, by-donor (named in the config) or none.  [default: within-site]"
        ),
    ] = None,
    held_out_site: Annotated[
        list[str] | None,
        typer.Option("--held-out-site", help="A site that is held out whole (--split by-site); may be repeated."),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of the split.  [default: 0]")] = None,
    input_kind: Annotated[
        str | None, typer.Option("--input", help="counts, or lognorm (log-normalised X).  [default: counts]")
    ] = None,
    genome: Annotated[str | None, typer.Option("--genome", help="Genome of a 10x h5 file with several.")] = None,
    cells_in: Annotated[
        str | None,
        typer.Option("--cells-in", help="Where a table has its cells: rows, columns or auto.  [default: auto]"),
    ] = None,
    qc: Annotated[bool, typer.Option("--qc/--no-qc", help="Drop cells by the rules of [qc], or keep all.")] = True,
    preset: Annotated[
        str | None, typer.Option("--preset", help="cells or nuclei: whose limits QC takes.  [default: cells]")
    ] = None,
    doublets: Annotated[
        str | None,
        typer.Option("--doublets", help="flag, drop or off: doublets by Scrublet, sample by sample.  [default: flag]"),
    ] = None,
    events_per_donor: Annotated[
        int | None,
        typer.Option(
            "--events-per-donor", min=0, help="Cytometry: cap of events per donor; 0 keeps all.  [default: 20000]"
        ),
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Compress by blosc-lz4: larger; other readers need hdf5plugin.")
    ] = False,
    report: Annotated[Path | None, typer.Option("--report", help="Also write a QC report here (.html).")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be read and dropped; write nothing.")
    ] = False,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Prepare one site's files: read, attach labels, QC, map to the universe, normalise, split by donor, write.

    Example: `swarmcell preprocess sample_data/rna/site-a --config configs/rna.toml --out site-a.h5ad`
    """
    from swarmcell.config.preprocess import load
    from swarmcell.report.cells_table import preprocess_summary
    from swarmcell.workflows.preprocess import preprocess as run

    if report is not None:
        _check_report(report, dry_run=dry_run, force=force)
    keys = dict(zip(_KEYS, (donor_key, sample_key, condition_key, cell_type_key), strict=True))
    overrides = _given(
        modality=modality,
        site=site,
        sheets=sheet,
        universe=universe,
        input=input_kind,
        storage="blosc" if fast else None,
        columns=_given(**keys),
        split=_given(kind=split, held_out_sites=held_out_site, seed=seed),
        reading=_given(genome=genome, cells_in=cells_in),
        qc={**({} if qc else _NO_QC), **_given(preset=preset, doublets=doublets)},
        cytometry=_given(events_per_donor=events_per_donor),
    )
    settings = load(config, overrides)
    with _progress() as observer:
        made = run(source, settings, out, force=force, dry_run=dry_run, observer=observer)
    console().print(preprocess_summary(made.summary))
    if report is not None:
        from swarmcell.report.qc_page import write_qc_report

        write_qc_report(made.summary, out, report, rna=made.rna, force=force)
        say(f"QC report: {report}")
    if json:
        print_json(made.summary)
    if dry_run:
        next_command("the same command without --dry-run")
    else:
        next_command("swarmcell train", out)


def _check_report(report: Path, *, dry_run: bool, force: bool) -> None:
    """Refuse before the work begins what could not be written after it."""
    from swarmcell.errors import UsageError
    from swarmcell.files import refuse_existing

    if dry_run:
        msg = "--report shows what was prepared, and --dry-run prepares nothing. Leave one of them out."
        raise UsageError(msg)
    refuse_existing(report, force=force)


_NO_QC = {
    "min_genes": 0,
    "min_counts": 0,
    "mads_counts": 0,
    "mads_genes": 0,
    "mads_top20": 0,
    "mads_mito": 0,
    "max_mito_share": 1,
    "doublets": "off",
}


def _given(**options: Any) -> dict[str, Any]:  # noqa: ANN401
    return {name: value for name, value in options.items() if value not in (None, {}, [])}


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str, dict[str, Any]], None]]:
    """Show passes over the cells, with rate and remaining time."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    from swarmcell.report.channels_table import channels_table
    from swarmcell.report.rate import RateColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), RateColumn(), TimeRemainingColumn())
    with bars(*columns) as bar:
        tasks: list[Any] = []

        def observe(event: str, about: dict[str, Any]) -> None:
            if event == "pass":
                tasks.append(bar.add_task(about["name"], total=about["n"]))
            elif event == "cells" and tasks:
                bar.advance(tasks[-1], about["n"])
            elif event == "markers":
                bar.console.print(channels_table(about))
            elif event == "file":
                say(f"{about['file']}: {about['n_in']} events in, {about['n_out']} out", bar.console)

        yield observe
