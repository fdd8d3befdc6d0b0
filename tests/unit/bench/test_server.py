from bench import server, subjects


def test_the_lines_that_name_an_error_say_why_a_server_ended():
    log = "starting\nValueError: no such file\nINFO shut down\n\nINFO bye\n"
    assert server.telling(log) == "ValueError: no such file"
    assert server.telling("one\ntwo\nthree\nfour") == "two / three / four"
    assert server.telling("") == ""


def test_each_server_has_ports_of_its_own_and_one_for_both_protocols_where_it_has_one(tmp_path):
    made = server.Server(subjects.BY_NAME["mlship"], name="iris", folder=tmp_path)
    assert len({made.port, made.grpc_port, made.metrics_port}) == 3
    behind = server.Server(subjects.BY_NAME["mlship-envoy"], name="iris", folder=tmp_path)
    assert behind.grpc_port == behind.port
    assert behind.url == f"http://127.0.0.1:{behind.port}/v2/models/iris/infer"
