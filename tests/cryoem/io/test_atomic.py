import pytest

from cryoem.io.atomic import atomic_path


def test_a_finished_file_takes_its_name_and_leaves_nothing_else(tmp_path):
    with atomic_path(tmp_path / "new" / "map.mrc") as temporary:
        assert temporary.suffix == ".mrc"
        temporary.write_text("done")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["map.mrc"]
    assert (tmp_path / "new" / "map.mrc").read_text() == "done"


def test_a_failure_keeps_the_old_file_and_leaves_no_temporary(tmp_path):
    path = tmp_path / "map.mrc"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), atomic_path(path) as temporary:
        temporary.with_name("absent").rename(temporary)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
