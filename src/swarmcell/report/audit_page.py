"""The report of a privacy audit: one HTML file that needs nothing else. It says what the JSON document says."""

from swarmcell import __version__
from swarmcell.metrics.membership import FALSE_SHARE
from swarmcell.report import audit_table, html, style
from swarmcell.report.style import Picture
from swarmcell.workflows.audit_privacy import PrivacyAudit


def render(found: PrivacyAudit) -> bytes:
    """Return the report as the bytes of an HTML file."""
    with style.theme():
        pictures = [_drawn(found)]
        text = (
            html.environment(words=audit_table.words)
            .get_template("audit.html.j2")
            .render(
                f=found,
                pictures=pictures,
                sentences=audit_table.sentences(found),
                meaning=audit_table.MEANING,
                false_share=f"{FALSE_SHARE:.0%}",
                version=__version__,
            )
        )
    return text.encode()


def _drawn(found: PrivacyAudit) -> Picture:
    rows = [(model.name, attack) for model in found.models for attack in model.attacks]
    figure, (axes,) = style.blank(7.2, 1.2 + 0.42 * len(rows))
    kinds = list(dict.fromkeys(attack.name for _, attack in rows))
    for y, (_, attack) in enumerate(rows):
        value, colour = attack.found.auroc, style.model_colour(kinds.index(attack.name))
        if value.value is None:
            continue
        if value.low is not None and value.high is not None:
            axes.plot([value.low, value.high], [y, y], color=colour, linewidth=2)
        axes.plot([value.value], [y], color=colour, marker=style.model_marker(kinds.index(attack.name)))
    axes.axvline(0.5, color=style.MUTED, linewidth=1, linestyle="--")
    axes.set(xlabel="AUROC of the attack (0.5, dashed: guessing)", xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5))
    axes.set_yticks(range(len(rows)), [f"{name}: {attack.name}" for name, attack in rows])
    style.gridlines(axes, axis="x")
    return Picture(
        name="attacks",
        title="How well trained cells are told from others",
        caption="Points: AUROC; lines: 95 % intervals over donors. Right of the dashed line the attack does better "
        "than guessing.",
        alt=f"AUROC with interval of {len(rows)} attacks on {len(found.models)} models.",
        figure=figure,
    )
