#!/bin/sh
# Installs the system libraries that wheels expect and a slim machine lacks: libgomp (LightGBM) and curl (the docs' commands).
set -eu
missing=""
ldconfig -p 2>/dev/null | grep -q 'libgomp\.so\.1' || missing="$missing libgomp1"
command -v curl >/dev/null 2>&1 || missing="$missing curl"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "These system packages are missing, some tests will fail without them:$missing (Debian's names)" >&2
fi
