"""The rate of a pass over cells, as a column of a progress bar."""

from rich.progress import ProgressColumn, Task
from rich.text import Text


class RateColumn(ProgressColumn):
    """Shows cells per second."""

    def render(self, task: Task) -> Text:
        """Return the rate, or nothing while it is not known."""
        speed = task.finished_speed or task.speed
        return Text("cells" if speed is None else f"cells, {speed:,.0f}/s")
