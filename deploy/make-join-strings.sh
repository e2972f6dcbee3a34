#!/bin/sh
# Fills the files with which the teams' hosts join, by asking the kernel of compose.yaml, which has to run. Each string is
# for one host, once, within an hour; to join again, run it again and start the host again.
#   sh deploy/make-join-strings.sh podman compose
set -eu
folder=$(dirname "$0")
for team in reports cleanup; do
  "$@" --file "$folder/compose.yaml" exec -T kernel \
    nomaflow token create --host "$team" --project /srv/kernel > "$folder/secrets/join-$team"
done
