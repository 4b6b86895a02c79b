#!/bin/sh
# Images that stand in for those of a public registry, where none can be pulled: tests of the image and of docker-compose.yml.
#
#   scripts/stand_in_images.sh [base] [registry] [prometheus]      (all of them, when none is named)
#
# An image that the daemon has, or that it can pull, is left as it is. The others are made from Debian's packages under the names
# that Dockerfile and docker-compose.yml use, so they are told apart by their label `peerd.stand-in` alone:
#   base        debian:bookworm-slim    from mmdebstrap, which needs root; it trusts the CAs that this machine trusts
#   registry    registry:2              from docker-registry
#   prometheus  prom/prometheus         from prometheus
# DOCKER_HOST names the daemon. Builds use the network of its host.
set -eu

here=$(dirname "$0")
export DOCKER_BUILDKIT=0

# The names stand in docker-compose.yml; the tag of Prometheus's changes there.
named_in_compose() { sed -n "s|^ *image: \\($1:[^ ]*\\)\$|\\1|p" "$here/../docker-compose.yml"; }

is_there() { docker image inspect "$1" >/dev/null 2>&1 || timeout 120 docker pull --quiet "$1" >/dev/null 2>&1; }

# base NAME: a Debian without recommended packages.
base() {
    folder=$(mktemp --directory)
    trap 'rm -rf "$folder"' EXIT
    # The CAs of the packages come with ca-certificates; those that this machine was given are in its bundle alone.
    mmdebstrap --quiet --variant=minbase --include=ca-certificates \
        --customize-hook='copy-in /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs' \
        bookworm "$folder/root.tar"
    # pip brings CAs of its own, and is to take the system's instead.
    docker import --change 'LABEL peerd.stand-in=true' --change 'CMD ["/bin/bash"]' \
        --change 'ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt' "$folder/root.tar" "$1"
}

# packaged NAME PACKAGES, and on standard input the rest of its Dockerfile.
packaged() {
    {
        echo "FROM debian:bookworm-slim"
        echo "RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends $2 && apt-get clean"
        echo "LABEL peerd.stand-in=true"
        cat
    } | docker build --quiet --network host --tag "$1" -
}

[ $# -gt 0 ] || set -- base registry prometheus
for image in "$@"; do
    case $image in
        base)
            is_there debian:bookworm-slim || base debian:bookworm-slim
            ;;
        registry)
            name=$(named_in_compose registry)
            is_there "$name" || packaged "$name" "docker-registry wget" <<'END'
VOLUME /var/lib/registry
ENTRYPOINT ["docker-registry", "serve"]
CMD ["/etc/docker/registry/config.yml"]
END
            ;;
        prometheus)
            name=$(named_in_compose prom/prometheus)
            is_there "$name" || packaged "$name" "prometheus" <<'END'
RUN install --directory --owner prometheus --group prometheus /prometheus
USER prometheus
VOLUME /prometheus
ENTRYPOINT ["prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
END
            ;;
        *)
            echo "$0: $image is none of base, registry, prometheus" >&2
            exit 2
            ;;
    esac
done
