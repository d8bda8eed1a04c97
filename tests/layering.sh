#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# Who may include whom: greps the include lines of the library and fails on a violation.
set -u
cd "$(dirname "$0")/../include/mlmamba" || exit 2
bad=0

# allow FOLDER LAYER...: headers under FOLDER may include these layers only
allow() {
  local folder=$1; shift
  local pattern; pattern=$(printf '%s|' "$@")
  local found
  found=$(grep -HrnoE '#include "mlmamba/[^"]+"' "$folder" 2> /dev/null |
    grep -vE "\"mlmamba/(${pattern%|})[^\"]*\"")
  if [ -n "$found" ]; then
    printf 'layering: %s may include only %s:\n%s\n' "$folder" "$*" "$found"
    bad=1
  fi
}
# only PATTERN FOLDER...: system headers that match PATTERN appear only under these folders
only() {
  local pattern=$1; shift
  local places; places=$(printf '^%s|' "$@")
  local found
  found=$(grep -rnE "#include <($pattern)" . | sed 's,^\./,,' | grep -vE "${places%|}")
  if [ -n "$found" ]; then
    printf 'layering: <%s> belongs under %s only:\n%s\n' "$pattern" "$*" "$found"
    bad=1
  fi
}

allow core core/ version
allow ops core/ ops/
allow backend/reference core/ ops/ backend/reference/
allow backend/cpu core/ ops/ backend/cpu
allow backend/cuda core/ ops/ backend/cuda/
for header in backend/*.hpp backend/*.cuh; do # one for each backend: its own folder and what all know
  allow "$header" core/ ops/ "${header%.*}/"
done
allow nn core/ ops/ nn/
allow models core/ ops/ nn/ models/ io/
allow io core/ nn/ io/
allow text core/ nn/ io/ text/ models/
allow train core/ ops/ nn/ io/ text/ models/ train/ verify/
allow evaluate core/ io/ text/ models/ train/ evaluate/
allow data_prep core/ io/ text/ models/ train/ evaluate/ data_prep/
only 'hwy/|Eigen/' backend/cpu
only 'cuda|cub/|cublas' backend/cuda cuda.cuh
only 'nlohmann/' io text train
only 'jpeglib|png\.h' io train/garment
only 'utf8proc' text
only 'gif_lib' io/gif.hpp
only 'curl/' io/detail/curl_client.hpp
if grep -rn '__CUDACC__' . --include='*.hpp' | grep -v '^./core/scalar.hpp' | grep -v '^./version.hpp'; then
  echo 'layering: __CUDACC__ belongs in core/scalar.hpp only'
  bad=1
fi
if grep -rnE '\bstd::(format|mdspan|source_location)\b' .; then bad=1; fi
[ $bad = 0 ] && echo "layering: $(find . -name '*.hpp' -o -name '*.cuh' | wc -l) headers respect it"
exit $bad
