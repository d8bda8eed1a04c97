# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# Sourced by demo.sh and tests/run.sh: installs the named Debian packages that are missing.

install_missing() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2> /dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get > /dev/null || {
    echo "There is no apt-get here: going on without having installed ${missing[*]} (or what they are called here)" >&2
    return 0
  }
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo > /dev/null || {
      echo "missing packages: ${missing[*]}; install them as root, or install sudo" >&2
      return 1
    }
    as_root=(sudo)
  fi
  echo "Installing: ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
}
