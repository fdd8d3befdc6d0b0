from __future__ import annotations

from mlship.storage import identity


def test_what_may_resume() -> None:
    assert identity.Identity('"a"', "Mon", 1).validator == '"a"'
    assert identity.Identity('W/"a"', "Mon", 1).validator == "Mon"
    assert identity.Identity("", "", 1).validator == ""
    assert identity.Identity('W/"a"', "", 1).strong_etag == ""


def test_stamp_follows_the_best_witness() -> None:
    one = identity.Identity('"a"', "Mon", 1)
    assert one.stamp == identity.Identity('"a"', "Tue", None).stamp
    assert one.stamp != identity.Identity('"b"', "Mon", 1).stamp
    assert identity.Identity("", "Mon", 1).stamp != identity.Identity("", "Mon", 2).stamp
    assert identity.Identity("", "Mon", 1).stamp != identity.Identity("", "Tue", 1).stamp
