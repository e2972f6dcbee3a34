#!/bin/sh
# Asks the running kernel of compose.yaml for a join string for each team's host. Each string works for one host, once, within
# an hour; to join again, run this again and restart the host.
#   sh deploy/make-join-strings.sh podman compose
set -eu
folder=$(dirname "$0")
for team in reports cleanup; do
  "$@" --file "$folder/compose.yaml" exec -T kernel \
    nomaflow token create --host "$team" --project /srv/kernel > "$folder/secrets/join-$team"
done
