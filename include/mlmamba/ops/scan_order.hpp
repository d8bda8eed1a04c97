// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Orders in which a 2-D grid of tokens becomes a sequence.
#pragma once

#include "mlmamba/core/check.hpp"
#include "mlmamba/core/context.hpp"

namespace mlmamba::ops {

/// With r rows and c columns, step k of the sequence is the token at
///   raster          row-major: k
///   reverse         raster from the end
///   column          column-major: row k % r, column k / r
///   column_reverse  column from the end
///   snake           row-major, odd rows from right to left
enum class scan_direction : std::uint8_t { raster, reverse, column, column_reverse, snake };

MLMAMBA_HD inline index_t scan_source(scan_direction d, index_t k, index_t rows, index_t columns) {
  const index_t last = rows * columns - 1;
  switch (d) {
    case scan_direction::reverse:
      return last - k;
    case scan_direction::column:
      return (k % rows) * columns + k / rows;
    case scan_direction::column_reverse:
      return ((last - k) % rows) * columns + (last - k) / rows;
    case scan_direction::snake: {
      const index_t r = k / columns, c = k % columns;
      return r * columns + (r % 2 ? columns - 1 - c : c);
    }
    case scan_direction::raster:
      break;
  }
  return k;
}

/// Permutes tokens into a scan order, or back.
///
///   y[b,k,:] = x[b, source(k), :]          inverse:  y[b, source(k), :] = x[b,k,:]
///
/// The backward is the same op with `inverse` flipped.
/// Shapes    x, y (B, T, D), T = grid_rows grid_columns
/// Layout    unit stride over d; x and y must not overlap
template <engine E>
struct scan_order {
  static constexpr const char* name = "scan_order";
  in<E, 3> x{};
  out<E, 3> y{};
  scan_direction direction = scan_direction::raster;
  index_t grid_rows = 0, grid_columns = 0;
  bool inverse = false;

  void check() const {
    check::given(name, "x", x);
    check::that(grid_rows >= 0 && grid_columns >= 0 && grid_rows * grid_columns == x.size[1], name,
                "x is " + to_string(x) + " and the grid is " + std::to_string(grid_rows) + " x " +
                    std::to_string(grid_columns) + "; wanted is a grid of all tokens");
    check::size(name, "y", y, x.shape());
    check::unit_stride(name, "x", x);
    check::unit_stride(name, "y", y);
  }
  double flops() const { return 0; }
  double bytes() const { return check::total_bytes(x, y); }
};

}  // namespace mlmamba::ops
