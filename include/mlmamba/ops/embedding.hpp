// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Rows of a table, chosen by index.
#pragma once

#include "mlmamba/core/check.hpp"
#include "mlmamba/core/context.hpp"

namespace mlmamba::ops {

/// Looks up rows: y[t,:] = table[index[t],:].
///
/// Shapes    index (T); table (V, D); y (T, D)
/// Layout    unit stride over d
/// Errors    shape_error if an index is outside [0, V) (host backends; on a GPU such a row becomes
///           NaN)
template <engine E>
struct embedding {
  static constexpr const char* name = "embedding";
  in_index<E, 1> index{};
  in_weight<E, 2> table{};
  out<E, 2> y{};

  void check() const {
    check::given(name, "index", index);
    check::given(name, "table", table);
    check::size(name, "y", y, shape<2>{{index.size[0], table.size[1]}});
    check::unit_stride(name, "index", index);
    check::unit_stride(name, "table", table);
    check::unit_stride(name, "y", y);
  }
  double flops() const { return 0; }
  double bytes() const { return check::total_bytes(index, y, y); }
};

/// dtable[index[t],:] += dy[t,:], t ascending.
template <engine E>
struct embedding_backward {
  static constexpr const char* name = "embedding_backward";
  in_index<E, 1> index{};
  in<E, 2> dy{};
  out_accum<E, 2> dtable{};

  void check() const {
    check::given(name, "index", index);
    check::given(name, "dtable", dtable);
    check::size(name, "dy", dy, shape<2>{{index.size[0], dtable.size[1]}});
    check::unit_stride(name, "index", index);
    check::unit_stride(name, "dy", dy);
    check::unit_stride(name, "dtable", dtable);
  }
  double flops() const { return double(dy.count()); }
  double bytes() const { return check::total_bytes(index, dy) + 2.0 * check::bytes(dy); }
};

}  // namespace mlmamba::ops
