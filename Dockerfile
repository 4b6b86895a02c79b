# The image of peerd: the project in a virtual environment, beside Debian's Python and Serf.
#
# Every Python package is a wheel whose hash stands in requirements/*.txt, so that no compiler is needed and two builds of one
# commit hold the same packages. What builds is in the first stage alone.

ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
RUN apt-get update --quiet --quiet \
    && DEBIAN_FRONTEND=noninteractive apt-get install --quiet --quiet --yes --no-install-recommends python3 python3-venv
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements requirements
# Two environments: what builds the project, and what runs it, which holds neither pip nor the builder.
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --only-binary :all: --requirement requirements/build.txt \
    && python3 -m venv --without-pip /opt/peerd \
    && /opt/build/bin/pip --python /opt/peerd/bin/python install --require-hashes --only-binary :all: \
        --requirement requirements/run.txt
COPY pyproject.toml README.md ./
COPY peerd_gossip peerd_gossip
COPY app app
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/build/bin/pip --python /opt/peerd/bin/python install --no-deps --no-warn-script-location --prefix /opt/project dist/*.whl


FROM ${BASE}
# ca-certificates: upstreams speak TLS. serf: membership. util-linux has the setpriv with which peerd starts it; it is in the base
# and named here because it is needed.
RUN apt-get update --quiet --quiet \
    && DEBIAN_FRONTEND=noninteractive apt-get install --quiet --quiet --yes --no-install-recommends \
        ca-certificates python3 serf util-linux \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log \
    && useradd --uid 65532 --user-group --no-create-home --home-dir /var/lib/peerd --shell /usr/sbin/nologin peerd \
    && install --directory --owner peerd --group peerd --mode 0750 /var/lib/peerd
# The packages change seldom and are large; the project is small, and a layer of its own.
COPY --from=build /opt/peerd /opt/peerd
COPY --from=build /opt/project /opt/peerd
ENV PATH=/opt/peerd/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1

# A number, so that Kubernetes can see that it is not root's.
USER 65532:65532
WORKDIR /var/lib/peerd
# The cache: a volume, as its files are large and change much. A new one gets the folder's owner.
VOLUME /var/lib/peerd
# Clients (on loopback, unless --http-addr says otherwise), peers, gossip, metrics, Serf.
EXPOSE 5000 5001 5002 5004 7946/tcp 7946/udp
STOPSIGNAL SIGTERM
# http.client and not urllib: a proxy of the environment is meant for upstreams.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python3", "-I", "-c", "\
import http.client, os, sys, urllib.parse as u; \
node = u.urlsplit(os.environ.get('PEERD_NODE', 'http://127.0.0.1:5000')); \
door = http.client.HTTPConnection(node.hostname, node.port or 80, timeout=4); \
door.request('GET', '/readyz'); \
sys.exit(door.getresponse().status != 200)"]
ENTRYPOINT ["peerd"]
CMD ["serve"]

# Last, as they differ in each build: what is above stays in the cache.
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="peerd" \
      org.opencontainers.image.description="Nodes of a cluster take image layers and files from each other instead of all from one registry." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}"
