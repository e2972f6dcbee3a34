#!/bin/sh
# Makes the secrets of compose.yaml that there are before the kernel runs, once: the database's password. Needs openssl.
# What is there stays. make-join-strings.sh makes the others.
#   sh deploy/make-secrets.sh [DIRECTORY]
set -eu
umask 077
folder=${1:-$(dirname "$0")/secrets}
mkdir "$folder"
cd "$folder"

openssl rand -hex 32 > postgres-password
printf 'postgres:5432:nomaflow:nomaflow:%s\n' "$(cat postgres-password)" > pgpass
# They have to be there for compose, and are filled once the kernel runs.
touch join-reports join-cleanup

cat <<TEXT
made in $folder. The containers run as user 10001 and have to be the owner of these files:
  rootless podman:  podman unshare chown -R 10001:10001 '$folder'
  docker:           sudo chown -R 10001:10001 '$folder'
TEXT
