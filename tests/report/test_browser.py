"""The report in a real browser, from disk: it asks for nothing, complains of nothing, and fits a desk and a phone."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from waiting import LIMIT_S

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
    *("--virtual-time-budget=8000", "--window-size=1500,1000", "--enable-logging=stderr", "--log-level=0"),
)
FRAME = """<!doctype html><meta name="color-scheme" content="light dark">
<script>addEventListener("message", (said) => { document.documentElement.dataset.found = said.data; });</script>
<iframe src="report.html" style="width:{width}px;height:900px;border:0"></iframe>
"""  # a window of Chromium is no narrower than 500 pixels
WIDTHS = (1280, 390)
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"  # any request breaks it
PROBE = f"""<meta http-equiv="Content-Security-Policy" content="{POLICY}">"""
PROBE += """
<script>
const requests = [];
addEventListener("securitypolicyviolation", (event) => requests.push(event.blockedURI));
addEventListener("load", () => {
  const root = document.documentElement, found = {
    overflow: root.scrollWidth - innerWidth,
    width: innerWidth,
    figures: document.querySelectorAll("figure svg").length,
    empty: [...document.querySelectorAll("figure svg")].filter((s) => s.getBoundingClientRect().width < 100).length,
    requests,
    unnamed: [...document.querySelectorAll("svg[role=img]")].filter((s) => !s.querySelector("title")).length,
    background: getComputedStyle(document.body).backgroundColor,
  };
  parent.postMessage(JSON.stringify(found), "*");
});
</script>
"""

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine")


@pytest.fixture(scope="module")
def page(study_files, tmp_path_factory):
    from swarmcell.report import folder
    from swarmcell.workflows.evaluate import evaluate

    target = tmp_path_factory.mktemp("browser") / "evaluation"
    return folder.write(evaluate(study_files.merged, study_files.files, n_bootstrap=50), target)


@pytest.fixture(scope="module")
def strata(make_cells, tmp_path_factory):
    from swarmcell.cells import schema
    from swarmcell.model.study import StrataRule
    from swarmcell.report import strata_page
    from swarmcell.workflows.stratify import Options, stratify_alone

    folder = tmp_path_factory.mktemp("strata")
    for site in ("site-a", "site-b"):
        adata = make_cells(site, effect=4.0)
        few = (adata.obs["condition"] == "ill") & (adata.obs["cell_type"] == "NK") & (np.arange(adata.n_obs) % 5 > 0)
        schema.write_prepared(adata[~few.to_numpy()].copy(), folder / f"{site}.h5ad")
    rule = StrataRule(k_max=3, starts=8, resamples=5, nulls=39, permutations=99)
    options = Options(rule=rule, annotate=False)
    made = stratify_alone(sorted(folder.glob("*.h5ad")), folder / "out", options, observer=lambda _event, _facts: None)
    assert made.result["k"] == 2
    return strata_page.write(made.result, folder / "out")


def opened(page, tmp_path, *, width, dark=False):
    """Open a copy that measures itself; return what it found, and what the browser logged."""
    (tmp_path / "report.html").write_text(page.read_text().replace("</head>", PROBE + "</head>"))
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.replace("{width}", str(width)))
    look = ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []
    command = [CHROMIUM, *FLAGS, *look, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    at = done.stdout.index('data-found="') + len('data-found="')
    text = done.stdout[at : done.stdout.index('"', at)].replace("&quot;", '"')
    return json.loads(text), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_report_opens_from_disk_without_a_request_or_a_complaint_and_fits(page, tmp_path, width):
    found, console = opened(page, tmp_path, width=width)
    assert console == []
    assert found["width"] == width
    assert found["requests"] == []
    assert found["figures"] >= 8
    assert found["empty"] == found["unnamed"] == 0
    assert found["overflow"] <= 0, f"the page is {found['overflow']} pixels wider than the window"


def test_the_report_follows_a_dark_desktop(page, tmp_path):
    light, _ = opened(page, tmp_path, width=1280)
    dark, console = opened(page, tmp_path, width=1280, dark=True)
    assert console == []
    assert light["background"] != dark["background"]


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_the_report_of_strata_fits_too(strata, tmp_path, width, dark):
    found, console = opened(strata, tmp_path, width=width, dark=dark)
    assert console == found["requests"] == []
    assert found["figures"] >= 4
    assert found["empty"] == found["unnamed"] == 0
    assert found["overflow"] <= 0, f"the page is {found['overflow']} pixels wider than the window"


def test_the_probe_sees_requests_complaints_and_what_is_too_wide(page, tmp_path):
    worse = tmp_path / "worse.html"
    strange = (
        '<img src="missing.png" alt=""><div style="width:3000px">wide</div><script>console.error("broken")</script>'
    )
    worse.write_text(page.read_text().replace("</main>", strange + "</main>"))
    found, console = opened(worse, tmp_path, width=1280)
    assert found["overflow"] > 1000
    assert found["requests"]
    assert any("broken" in line for line in console)
