#!/usr/bin/env bash
# Installs the packages of tests/system_packages.txt, where that can be done; never fails.
set -uo pipefail
cd "$(dirname "$0")" || exit 0
absent=()
while read -r package; do
    dpkg-query --show --showformat '${db:Status-Status}\n' "$package" 2>/dev/null |
        grep -qx installed || absent+=("$package")
done < <(grep -v '^#' system_packages.txt)
if [[ ${#absent[@]} == 0 ]]; then
    exit 0
fi
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "not installed, some tests will be skipped: ${absent[*]}"
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
timeout 120 apt-get update --quiet=2 || true
for package in "${absent[@]}"; do # one that cannot be had keeps no other away
    timeout 300 apt-get install --yes --quiet=2 --no-install-recommends "$package" >/dev/null ||
        echo "could not be installed, some tests will be skipped: $package"
done
exit 0
