#!/bin/sh
# What the tests need besides Python: real registries, blob stores, gossip agents and browsers.
# As root it installs what is missing (Debian 12); otherwise it says what that is and exits 1.
set -eu

packages="busybox-static chromium containerd docker-compose docker-registry docker.io iproute2 mmdebstrap nginx-light openssl prometheus runc serf skopeo"

missing=""
for package in $packages; do
    case "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)" in
        installed) ;;
        *) missing="$missing $package" ;;
    esac
done
[ -z "$missing" ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "The tests need these Debian packages:$missing" >&2
    echo "Install them as root: apt-get install --no-install-recommends$missing" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet --quiet
# RUNLEVEL keeps invoke-rc.d from starting their services: the tests start what they need, where they need it.
# shellcheck disable=SC2086 # a list of words
RUNLEVEL=1 apt-get install --quiet --quiet --yes --no-install-recommends $missing
