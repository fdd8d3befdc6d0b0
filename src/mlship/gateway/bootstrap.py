"""Envoy's own configuration: the listener, what Envoy says itself, and where it finds the rest. Pure.

Written once at the start of Envoy: a change of it is a restart. Everything that changes while Envoy runs is in
``render``.
"""

from __future__ import annotations

from mlship.gateway import clusters, render

Resource = render.Resource

_TYPE = render.TYPE
_HCM = _TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_LARGEST_EXPRESSION = "re2.max_program_size.error_level"
_FILTERS = _TYPE + "envoy.extensions.filters.http."
_GATE = "mlship.gate"
# The gate answers every question within its service's patience; this ends one that a stopped process still holds.
_GATE_SECONDS = 3600
# What Envoy says when the gate does not answer; mapped to 503 before anybody sees it, and used for nothing else.
_GATE_IS_AWAY = 508
_AGAIN = {"header": {"key": "retry-after", "value": "1"}, "append_action": "ADD_IF_ABSENT"}
_ABSENT = "The service has no replica and the control plane, which would start one, does not answer; try again."
# The names that clients of ModelMesh and Seldon send.
_OTHER_NAMES = ("mm-model-id", "seldon-model")


def configuration(*, listen: render.Listen, admin_socket: str, gate_socket: str, xds_folder: str) -> Resource:
    """Envoy's own configuration: the listener, the gate and where to find the rest."""
    return {
        "node": {"id": "mlship", "cluster": "mlship"},
        "admin": {"address": {"pipe": {"path": admin_socket, "mode": 0o600}}},
        # Envoy refuses expressions of over 100 instructions, which two long names are; those of pools list many.
        "layered_runtime": {"layers": [{"name": "limits", "static_layer": {_LARGEST_EXPRESSION: 1_000_000}}]},
        "dynamic_resources": {"cds_config": _from_file(f"{xds_folder}/cds.json")},
        # Histograms are brought up to date when somebody asks, not every five seconds: the scaler asks more often.
        "stats_flush_on_admin": True,
        "static_resources": {
            "listeners": [_listener(listen, f"{xds_folder}/rds.json")],
            "clusters": [_gate_cluster(gate_socket)],
        },
        # Idle clusters are the rule: one that was never asked anything allocates no counters.
        "deferred_stat_options": {"enable_deferred_creation_stats": True},
        "stats_config": {"stats_matcher": {"inclusion_list": {"patterns": _statistics()}}},
    }


def _statistics() -> list[Resource]:
    """What is counted: by cluster what tells load, speed and failures; of the listener and the gate everything."""
    of_clusters = r"upstream_(rq|cx)_(total|active|time|pending_active|retry|[0-9a-z]+xx|timeout|connect_fail)"
    named = rf"cluster\..+\.({of_clusters}|membership_(total|healthy))"
    prefixes = ("http.ingress.", "http2.", "cluster_manager.", "server.", "listener_manager.", "runtime.")
    return [*({"prefix": prefix} for prefix in prefixes), {"safe_regex": {"regex": named}}]


def _gate_cluster(socket: str) -> Resource:
    endpoint = {"endpoint": {"address": {"pipe": {"path": socket}}}}
    return {
        "name": _GATE,
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": _GATE, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "circuit_breakers": clusters.LIMITS,
    }


def _gate_filters() -> list[Resource]:
    """The route's name, then the question in its name. The question is off but on routes that turn it on."""
    header = {"key": render.GATE_HEADER, "value": "%ROUTE_NAME%"}
    naming = {
        "@type": _FILTERS + "header_mutation.v3.HeaderMutation",
        "mutations": {"request_mutations": [{"append": {"header": header, "append_action": render.OVERWRITE}}]},
    }
    asking = {
        "@type": _FILTERS + "ext_authz.v3.ExtAuthz",
        "stat_prefix": "gate",
        "http_service": {
            "server_uri": {"uri": "http://gate", "cluster": _GATE, "timeout": f"{_GATE_SECONDS}s"},
            "authorization_response": {"allowed_client_headers": {"patterns": [{"exact": "retry-after"}]}},
        },
        "allowed_headers": {"patterns": [{"exact": render.GATE_HEADER}, {"exact": render.TRACE_HEADER}]},
        "status_on_error": {"code": _GATE_IS_AWAY},
    }
    return [
        {"name": "mlship.gate_name", "typed_config": naming},
        {"name": render.GATE_FILTER, "disabled": True, "typed_config": asking},
    ]


def _early_headers() -> list[Resource]:
    """Before a route is looked for: what other servers' clients send is the service's name, unless it was given."""
    named = "%REQ(" + "?".join(_OTHER_NAMES) + ")%"
    mutation = {"append": {"header": {"key": render.SERVICE_HEADER, "value": named}, "append_action": "ADD_IF_ABSENT"}}
    config = {
        "@type": _TYPE + "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        "mutations": [mutation],
    }
    return [{"name": "mlship.service_name", "typed_config": config}]


def _from_file(path: str) -> Resource:
    return {"resource_api_version": "V3", "path_config_source": {"path": path}}


def _listener(listen: render.Listen, rds_path: str) -> Resource:
    manager = {
        "@type": _HCM,
        "stat_prefix": "ingress",
        "codec_type": "AUTO",
        "rds": {"route_config_name": render.ROUTE_CONFIG, "config_source": _from_file(rds_path)},
        "early_header_mutation_extensions": _early_headers(),
        "http_filters": [
            *_gate_filters(),
            {"name": "envoy.filters.http.router", "typed_config": {"@type": _FILTERS + "router.v3.Router"}},
        ],
        "use_remote_address": True,
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "stream_idle_timeout": "0s",
        "request_headers_timeout": "10s",
        "common_http_protocol_options": {"idle_timeout": "300s", "headers_with_underscores_action": "ALLOW"},
        "http2_protocol_options": {"max_concurrent_streams": 1000},
        "local_reply_config": _local_replies(),
        "access_log": [_log_of_failures()],
        "server_name": "mlship",
    }
    return {
        "name": "ingress",
        "address": {"socket_address": {"address": listen.host, "port_value": listen.port}},
        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
        "per_connection_buffer_limit_bytes": 4 * 1024 * 1024,
    }


def _local_replies() -> Resource:
    """What Envoy says itself takes the protocol's error form; for gRPC the sentence alone becomes grpc-message.

    The first mapper that fits is used. Every 503 says when to come back.
    """
    mappers = []
    for status, operator in ((_GATE_IS_AWAY, "EQ"), (render.REFUSED, "EQ"), (503, "EQ"), (400, "GE")):
        for grpc in (True, False):
            mapper: Resource = {"filter": _status(operator, status)}
            if grpc:
                both = [{"header_filter": {"header": render.MATCH_GRPC}}, mapper["filter"]]
                mapper = {"filter": {"and_filter": {"filters": both}}}
            text = _ABSENT if status == _GATE_IS_AWAY else "%LOCAL_REPLY_BODY%"
            plain = {"text_format_source": {"inline_string": text}, "content_type": "text/plain"}
            error = {"json_format": {"error": text}, "content_type": "application/json"}
            mapper["body_format_override"] = plain if grpc else error
            if operator == "EQ":
                mapper |= {"status_code": 503, "headers_to_add": [_AGAIN]}
            mappers.append(mapper)
    return {"mappers": mappers}


def _status(operator: str, status: int) -> Resource:
    value = {"default_value": status, "runtime_key": f"mlship.status_{status}"}
    return {"status_code_filter": {"comparison": {"op": operator, "value": value}}}


def _log_of_failures() -> Resource:
    return {
        "name": "envoy.access_loggers.stdout",
        "filter": _status("GE", 500),
        "typed_config": {
            "@type": _TYPE + "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
            "log_format": {
                "json_format": {
                    "time": "%START_TIME%",
                    "method": "%REQ(:METHOD)%",
                    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
                    "host": "%REQ(:AUTHORITY)%",
                    "status": "%RESPONSE_CODE%",
                    "flags": "%RESPONSE_FLAGS%",
                    "details": "%RESPONSE_CODE_DETAILS%",
                    "duration_ms": "%DURATION%",
                    "cluster": "%UPSTREAM_CLUSTER%",
                    "request_id": "%REQ(X-REQUEST-ID)%",
                }
            },
        },
    }
