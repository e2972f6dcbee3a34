#!/bin/sh
# Makes the secrets of compose.yaml, once: the database's password, and room for the hosts' join strings, which only the
# running kernel can make. Needs openssl. What is there stays.
#   sh deploy/make-secrets.sh [DIRECTORY]
set -eu
umask 077
folder=${1:-$(dirname "$0")/secrets}
mkdir "$folder"
cd "$folder"

openssl rand -hex 32 > postgres-password
printf 'postgres:5432:nomaflow:nomaflow:%s\n' "$(cat postgres-password)" > pgpass
touch reports.join cleanup.join

cat <<TEXT
made in $folder. The containers run as user 10001 and have to be the owner of these files: OWN below is
'podman unshare chown 10001:10001' for rootless podman, 'sudo chown 10001:10001' for docker.
  OWN '$folder'/pgpass
  podman compose --file deploy/compose.yaml up --build --detach kernel
  for team in reports cleanup; do
    podman compose --file deploy/compose.yaml exec -T kernel \\
      nomaflow token create --project /srv/kernel --host \$team > '$folder'/\$team.join
  done
  OWN '$folder'/*.join
  podman compose --file deploy/compose.yaml up --build
TEXT
