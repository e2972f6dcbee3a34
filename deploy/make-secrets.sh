#!/bin/sh
# Makes the secrets of compose.yaml, once: tokens, the database's password, and an authority that signs the kernel's
# certificate. Needs openssl. What is there stays.
#   sh deploy/make-secrets.sh [DIRECTORY]
set -eu
umask 077
folder=${1:-$(dirname "$0")/secrets}
mkdir "$folder"
cd "$folder"

for name in client-token host-token postgres-password; do
  openssl rand -hex 32 > "$name"
done
printf 'postgres:5432:nomaflow:nomaflow:%s\n' "$(cat postgres-password)" > pgpass

# The authority's own key is not kept: for another certificate, make everything anew.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 825 -subj '/CN=nomaflow' \
  -addext 'basicConstraints=critical,CA:TRUE,pathlen:0' -addext 'keyUsage=critical,keyCertSign' \
  -keyout ca.key -out ca.crt 2> openssl.log
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 825 -subj '/CN=kernel' \
  -CA ca.crt -CAkey ca.key -addext 'subjectAltName=DNS:kernel,DNS:localhost,IP:127.0.0.1' \
  -addext 'basicConstraints=critical,CA:FALSE' -addext 'extendedKeyUsage=serverAuth' \
  -keyout kernel.key -out kernel.crt 2>> openssl.log
rm ca.key openssl.log

cat <<TEXT
made in $folder. The containers run as user 10001 and have to be the owner of these files:
  rootless podman:  podman unshare chown -R 10001:10001 '$folder'
  docker:           sudo chown -R 10001:10001 '$folder'
TEXT
