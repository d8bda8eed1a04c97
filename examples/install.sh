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
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo > /dev/null || {
      echo "missing packages: ${missing[*]}; install them as root, or install sudo" >&2
      return 1
    }
    as_root=(sudo)
  fi
  command -v apt-get > /dev/null || {
    echo "missing packages: ${missing[*]}; there is no apt-get here: install them by your own means" >&2
    return 1
  }
  echo "Installing: ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
}
