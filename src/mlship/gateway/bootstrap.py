"""Envoy's own configuration: the listener, what Envoy says itself, and where it finds the rest. Pure.

Written once at the start of Envoy: a change of it is a restart. Everything that changes while Envoy runs is in
``render``.
"""

from __future__ import annotations

from mlship.gateway import render

Resource = render.Resource

_TYPE = render.TYPE
_HCM = _TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_LARGEST_EXPRESSION = "re2.max_program_size.error_level"
_ROUTER = _TYPE + "envoy.extensions.filters.http.router.v3.Router"


def configuration(*, listen: render.Listen, admin_socket: str, xds_folder: str) -> Resource:
    """Envoy's own configuration: the listener and where to find the rest."""
    return {
        "node": {"id": "mlship", "cluster": "mlship"},
        "admin": {"address": {"pipe": {"path": admin_socket, "mode": 0o600}}},
        # Envoy refuses expressions of over 100 instructions, which two long names are; those of pools list many.
        "layered_runtime": {"layers": [{"name": "limits", "static_layer": {_LARGEST_EXPRESSION: 1_000_000}}]},
        "dynamic_resources": {"cds_config": _from_file(f"{xds_folder}/cds.json")},
        "static_resources": {"listeners": [_listener(listen, f"{xds_folder}/rds.json")]},
    }


def _from_file(path: str) -> Resource:
    return {"resource_api_version": "V3", "path_config_source": {"path": path}}


def _listener(listen: render.Listen, rds_path: str) -> Resource:
    manager = {
        "@type": _HCM,
        "stat_prefix": "ingress",
        "codec_type": "AUTO",
        "rds": {"route_config_name": render.ROUTE_CONFIG, "config_source": _from_file(rds_path)},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": _ROUTER}}],
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
    """What Envoy says itself takes the protocol's error form; for gRPC the sentence alone becomes grpc-message."""
    grpc = {"header_filter": {"header": render.MATCH_GRPC}}
    failed = {
        "status_code_filter": {
            "comparison": {"op": "GE", "value": {"default_value": 400, "runtime_key": "mlship.error_status"}}
        }
    }
    plain = {"text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"}, "content_type": "text/plain"}
    error = {"json_format": {"error": "%LOCAL_REPLY_BODY%"}, "content_type": "application/json"}
    return {
        "mappers": [
            {"filter": grpc, "body_format_override": plain},
            {"filter": failed, "body_format_override": error},
        ]
    }


def _log_of_failures() -> Resource:
    return {
        "name": "envoy.access_loggers.stdout",
        "filter": {
            "status_code_filter": {
                "comparison": {"op": "GE", "value": {"default_value": 500, "runtime_key": "mlship.log_status"}}
            }
        },
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
