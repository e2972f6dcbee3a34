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
# Compose needs these files; they are filled once the kernel runs. The containers' user may read them, and nobody else of this
# machine may enter the folder.
touch join-reports join-cleanup
chmod 644 join-reports join-cleanup

cat <<TEXT
made in $folder. PostgreSQL's drivers accept only a password file of their own user, 10001 in the containers:
  rootless podman:  podman unshare chown 10001:10001 '$folder/pgpass'
  docker:           sudo chown 10001:10001 '$folder/pgpass'
TEXT
