from io import StringIO

from rich.console import Console

from swarmcell.report.channels_table import channels_table


def test_every_channel_is_shown_with_its_marker_or_why_it_has_none() -> None:
    channels = [
        {"channel": "FSC-A", "stain": "", "marker": "", "why": "scatter"},
        {"channel": "FL1-A", "stain": "CD4 FITC", "marker": "CD4", "why": "panel"},
    ]
    written = StringIO()
    console = Console(width=80, file=written)
    console.print(channels_table({"file": "a.fcs", "channels": channels}))
    lines = written.getvalue().splitlines()
    assert any(all(word in line for word in ("FL1-A", "CD4 FITC", "CD4", "panel")) for line in lines)
    assert any(all(word in line for word in ("FSC-A", "-", "scatter")) for line in lines)
