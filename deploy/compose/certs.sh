#!/bin/sh
# Makes what the cluster of docker-compose.yml trusts, once: a CA, and the key that encrypts Serf's gossip. Runs as root; both keys
# are root's alone.
set -eu
umask 077

[ -e /ca/ca.key ] || peerd certs init --out /ca
[ -e /ca/serf.key ] || serf keygen >/ca/serf.key
