from bench import bodies, loads, subjects


def test_names_are_unique_and_every_environment_has_its_requirements():
    assert len(subjects.BY_NAME) == len(subjects.SUBJECTS)
    for one in subjects.SUBJECTS:
        assert (subjects.ROOT / "peers" / one.home.name / "requirements.txt").exists()
        assert one.dialect in bodies.DIALECTS


def test_every_peer_has_a_variant_in_the_run_for_publication_and_takes_the_small_load():
    small = next(load for load in loads.CLOSED if load.name == "iris-64")
    for peer in {one.peer for one in subjects.SUBJECTS}:
        assert any(loads.applies(small, one) and not one.second for one in subjects.SUBJECTS if one.peer == peer)


def test_the_floor_is_no_peer_and_takes_the_small_model_alone():
    floor = subjects.BY_NAME["floor"]
    assert not floor.is_peer
    assert {load.name for load in loads.CLOSED if loads.applies(load, floor)} == {"iris-1", "iris-64"}


def test_binary_and_grpc_loads_go_to_those_who_have_them():
    taken = {load.name: {one.name for one in subjects.SUBJECTS if loads.applies(load, one)} for load in loads.CLOSED}
    assert {"mlship", "pytriton", "kserve-quiet"} <= taken["forest-rows-binary"]
    assert taken["iris-grpc-64"] == taken["forest-rows-binary"] | {"mlserver", "mlserver-batch", "mlserver-shipped"}
