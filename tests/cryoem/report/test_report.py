import base64
import re

import pytest
from run_folders import write_run

from cryoem.errors import InputError
from cryoem.report import build_report


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "swing")


def test_the_page_needs_nothing_from_elsewhere(finished):
    page = (finished / "report.html").read_text()
    sources = re.findall(r'(?:src|href)\s*=\s*"([^"]{0,30})', page)
    assert len(sources) == 6
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"https?://|@import|url\(", page)


def test_the_figures_in_the_page_are_the_files(finished):
    page = (finished / "report.html").read_text()
    inlined = {base64.b64decode(data) for data in re.findall(r"base64,([^\"]+)", page)}
    assert inlined == {path.read_bytes() for path in (finished / "figures").glob("*.png")}


def test_a_resolution_says_what_was_compared_at_which_threshold_under_which_mask(finished):
    page = (finished / "report.html").read_text()
    # FSC 1 - i/7 falls below 0.143 between shells 5 and 6: at 7 * 0.857 = 5.999 of 16 per 2.5 A
    assert f"{16 * 2.5 / 5.999:.1f} Å" in page
    assert "FSC = 0.143, half-set volumes, no mask" in page


def test_the_page_warns_of_what_the_run_noticed_without_trusting_its_markup(finished):
    page = (finished / "report.html").read_text()
    assert "The run has 2 of 4 epochs" in page
    assert "beam tilt is ignored" in page
    assert page.count("WARNING a: &lt;odd&gt;") == 1
    assert "<odd>" not in page


def test_volumes_are_listed_with_their_latents_and_a_script(finished):
    page = (finished / "report.html").read_text()
    rows = re.findall(r"volume_00\d\.mrc</code></td><td>16 x 16 x 16</td><td>2\.5 Å", page)
    assert len(rows) == 3
    assert "open open.cxc" in page


def test_the_command_that_repeats_the_run_uses_its_configuration(finished):
    page = (finished / "report.html").read_text()
    assert f"python train.py --config-dir {finished} --config-name config" in page


def test_a_run_that_has_just_begun_has_a_page_that_says_what_is_not_there_yet(tmp_path):
    (tmp_path / "config.yaml").write_text("name: young\n")
    page = build_report(tmp_path).read_text()
    assert page.count("missing") >= 3
    assert "There are no figures" in page
    assert "There is no checkpoint" in page


def test_damaged_parts_are_named_and_the_rest_is_shown(tmp_path):
    run = write_run(tmp_path / "run")
    (run / "latents.npz").write_bytes(b"PK not a zip")
    (run / "metrics.json").write_text("{")
    (run / "volumes" / "volume_002.mrc").write_bytes(b"short")
    page = build_report(run).read_text()
    for name in ("latents.npz", "metrics.json", "volume_002.mrc"):
        assert f"{name}: " in page.split("To know before")[1].split("</section>")[0]
    assert "volume_003.mrc" in page


def test_a_folder_that_is_no_run_is_refused_and_stays_as_it_was(tmp_path):
    with pytest.raises(InputError, match="not a run folder"):
        build_report(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        build_report(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []
