#!/bin/sh
# backup-database.sh FOLDER: dumps the database that PGHOST, PGUSER and PGDATABASE name, into
# FOLDER/WEEKDAY.dump; the last seven days are kept. `pg_restore` reads it.
set -eu
folder=${1:?usage: backup-database.sh FOLDER}
mkdir -p "$folder"
name=$folder/$(date +%a).dump
pg_dump --format=custom --file="$name.part"
pg_restore --list "$name.part" >/dev/null # it is whole
mv "$name.part" "$name"
