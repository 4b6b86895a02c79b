#!/bin/sh
# A node of docker-compose.yml: root issues its certificate, and an ordinary user serves.
#
# A node that `--scale` adds has no name until it runs, so each issues its own certificate at its start. The CA's key is root's
# alone: the process that talks to the network can not read it.
set -eu
umask 077

name=${PEERD_NODE_NAME:-$(hostname)}
own=/run/peerd

set --
for address in $(hostname -i); do set -- "$@" --ip "$address"; done
peerd certs issue --name "$name" "$@" --ca /ca/ca.crt --ca-key /ca/ca.key --out "$own"

cp /ca/ca.crt /ca/serf.key "$own"
chown peerd "$own"/*
chmod 0755 "$own"

export PEERD_NODE_NAME="$name"
export PEERD_TLS_CA="$own/ca.crt" PEERD_TLS_CERT="$own/$name.crt" PEERD_TLS_KEY="$own/$name.key"
export PEERD_SERF_KEY_FILE="$own/serf.key"
exec setpriv --reuid=peerd --regid=peerd --init-groups --inh-caps=-all --no-new-privs -- peerd serve
