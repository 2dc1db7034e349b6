"""A model's file: the same training gives the same bytes, on any day and in any process."""

import json
from hashlib import sha256

import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from swarmcell.errors import ModelError
from swarmcell.model import released


def rewrite(path, change):
    """Write a model file again with another description."""
    with safe_open(path, framework="numpy") as stream:
        document = json.loads(stream.metadata()["swarmcell"].partition(" ")[2])
    text = json.dumps(change(document), sort_keys=True)
    save_file(load_file(path), path, {"swarmcell": f"{sha256(text.encode()).hexdigest()} {text}"})


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


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (1, "by swarmcell 0.0.9 in format 1; .* Train it again, or go on with that version"),
        (99, "in format 99; .* Update swarmcell"),
    ],
)
def test_a_file_of_another_format_says_which_and_what_to_do(make_cells, fit_model, tmp_path, number, said):
    path = tmp_path / "a.safetensors"
    released.save(fit_model(make_cells("site-a")), path)
    rewrite(path, lambda document: document | {"format": number, "made_by": "0.0.9"})
    with pytest.raises(ModelError, match=said):
        released.load(path)


def test_a_file_of_the_first_format_is_known(make_cells, fit_model, tmp_path):
    path = tmp_path / "a.safetensors"
    released.save(fit_model(make_cells("site-a")), path)
    save_file(load_file(path), path, {"swarmcell": "{}", "sha256": sha256(b"{}").hexdigest()})
    with pytest.raises(ModelError, match=r"in format 1; .* Train it again"):
        released.load(path)


def test_a_study_that_knew_fewer_rules_is_still_read(make_cells, fit_model, tmp_path):
    path, model = tmp_path / "a.safetensors", fit_model(make_cells("site-a"))

    def earlier(document):
        del document["study"]["privacy"]["cell_digests"]
        return document

    released.save(model, path)
    rewrite(path, earlier)
    assert released.load(path).study == model.study
    released.save(model, path, force=True)
    rewrite(path, lambda document: document | {"study": document["study"] | {"seed": 7}})
    with pytest.raises(ModelError, match="digest that it states"):
        released.load(path)
    rewrite(
        path, lambda document: {**document, "study": {k: v for k, v in document["study"].items() if k != "cell_types"}}
    )
    with pytest.raises(ModelError, match=r"did not know cell_types among a study's rules. Train it again"):
        released.load(path)
