"""A model's file: the same training gives the same bytes, on any day and in any process."""

from safetensors import safe_open

from swarmcell.model import released


def test_the_same_model_is_the_same_bytes(make_cells, fit_model, tmp_path):
    files = [tmp_path / f"{name}.safetensors" for name in "ab"]
    for path in files:
        released.save(fit_model(make_cells("site-a")), path)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert released.load(files[0]).digest == released.load(files[1]).digest


def test_a_file_has_one_key_of_metadata_for_the_order_of_several_changes_from_process_to_process(
    make_cells, fit_model, tmp_path
):
    released.save(fit_model(make_cells("site-a")), tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", framework="numpy") as stream:
        assert list(stream.metadata()) == ["swarmcell"]
