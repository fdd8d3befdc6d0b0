from __future__ import annotations

from mlship.protocol import oip_table


def test_every_call_has_its_messages() -> None:
    for call in oip_table.CALLS:
        assert oip_table.REQUESTS.get(call, f"{call}Request") in oip_table.MESSAGES
        assert f"{call}Response" in oip_table.MESSAGES
    assert set(oip_table.CALLS) >= set(oip_table.REQUESTS) | oip_table.STREAMS


def test_no_message_has_a_number_or_a_name_twice() -> None:
    for name, lines in oip_table.MESSAGES.items():
        numbers = [line.rpartition(" = ")[2] for line in lines]
        names = [line.rpartition(" = ")[0].rpartition(" ")[2] for line in lines]
        assert len(set(numbers)) == len(set(names)) == len(lines), name


def test_a_message_inside_another_comes_after_it() -> None:
    names = list(oip_table.MESSAGES)
    for name in names:
        outer = name.rpartition(".")[0]
        assert not outer or names.index(outer) < names.index(name)
