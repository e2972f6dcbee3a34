#!/bin/sh
# Makes the database's password for compose.yaml, in a new folder; it stops if the folder exists. Needs openssl.
# make-join-strings.sh makes the other secrets once the kernel runs.
#   sh deploy/make-secrets.sh [DIRECTORY]
set -eu
umask 077
folder=${1:-$(dirname "$0")/secrets}
mkdir "$folder"
cd "$folder"

openssl rand -hex 32 > postgres-password
printf 'postgres:5432:nomaflow:nomaflow:%s\n' "$(cat postgres-password)" > pgpass
# Compose needs these files; they are filled once the kernel runs.
touch join-reports join-cleanup

cat <<TEXT
made in $folder. The containers run as user 10001 and have to be the owner of these files:
  rootless podman:  podman unshare chown -R 10001:10001 '$folder'
  docker:           sudo chown -R 10001:10001 '$folder'
TEXT
