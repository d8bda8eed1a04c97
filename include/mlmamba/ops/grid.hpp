// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Ops on a 2-D grid of tokens: adaptive pooling, pixel shuffle, depthwise convolution.
#pragma once

#include "mlmamba/core/check.hpp"
#include "mlmamba/core/context.hpp"

namespace mlmamba::ops {

namespace detail {
inline void check_grid(const char* op, const char* which, index_t tokens, index_t rows,
                       index_t columns) {
  check::that(rows > 0 && columns > 0 && rows * columns == tokens, op,
              "there are " + std::to_string(tokens) + " tokens in " + which + " and its grid is " +
                  std::to_string(rows) + " x " + std::to_string(columns) +
                  "; wanted is a grid of all tokens");
}
}  // namespace detail

/// Window i of `outputs` windows over n cells: [floor(i n / outputs), ceil((i + 1) n / outputs)).
struct pool_window {
  index_t from, to;
  MLMAMBA_HD pool_window(index_t i, index_t n, index_t outputs)
      : from(i * n / outputs), to(((i + 1) * n + outputs - 1) / outputs) {}
};

/// Adaptive average pooling of a grid of tokens.
///
///   y[b, i q + j, d] = mean of x over rows [floor(i r / p), ceil((i+1) r / p)), columns likewise
///
/// with r x c the grid of x and p x q the grid of y.
/// Shapes    x (B, r c, D); y (B, p q, D)
/// Layout    unit stride over d
/// Numerics  sum in accum over rows, then columns, ascending
template <engine E>
struct adaptive_pool {
  static constexpr const char* name = "adaptive_pool";
  in<E, 3> x{};
  out<E, 3> y{};
  index_t rows = 0, columns = 0, out_rows = 0, out_columns = 0;

  void check() const {
    check::given(name, "x", x);
    detail::check_grid(name, "x", x.size[1], rows, columns);
    check::size(name, "y", y, shape<3>{{x.size[0], check::any, x.size[2]}});
    detail::check_grid(name, "y", y.size[1], out_rows, out_columns);
    check::unit_stride(name, "x", x);
    check::unit_stride(name, "y", y);
  }
  double flops() const { return double(x.count()); }
  double bytes() const { return check::total_bytes(x, y); }
};

/// dx[b,s,d] = sum over the windows that hold s of dy / (size of the window).
template <engine E>
struct adaptive_pool_backward {
  static constexpr const char* name = "adaptive_pool_backward";
  in<E, 3> dy{};
  out<E, 3> dx{};
  index_t rows = 0, columns = 0, out_rows = 0, out_columns = 0;

  void check() const {
    check::given(name, "dx", dx);
    detail::check_grid(name, "dx", dx.size[1], rows, columns);
    check::size(name, "dy", dy, shape<3>{{dx.size[0], check::any, dx.size[2]}});
    detail::check_grid(name, "dy", dy.size[1], out_rows, out_columns);
    check::unit_stride(name, "dx", dx);
    check::unit_stride(name, "dy", dy);
  }
  double flops() const { return double(dx.count()); }
  double bytes() const { return check::total_bytes(dx, dy); }
};

/// Folds f x f neighbouring tokens into one token with f f D channels, or back (inverse).
///
///   y[b, (i/f)(c/f) + j/f, ((i%f) f + j%f) D + d] = x[b, i c + j, d]
///
/// The backward is the same op with `inverse` flipped.
/// Shapes    x (B, r c, D); y (B, (r/f)(c/f), f f D); inverse: the other way round
/// Layout    unit stride over d
/// Errors    shape_error if f does not divide r and c
template <engine E>
struct pixel_shuffle {
  static constexpr const char* name = "pixel_shuffle";
  in<E, 3> x{};
  out<E, 3> y{};
  index_t rows = 0, columns = 0;  // of the fine grid
  index_t factor = 1;
  bool inverse = false;

  void check() const {
    check::given(name, "x", x);
    check::given(name, "y", y);
    const index_t fine = inverse ? y.size[1] : x.size[1], d = inverse ? y.size[2] : x.size[2];
    detail::check_grid(name, "the fine array", fine, rows, columns);
    check::that(factor > 0 && rows % factor == 0 && columns % factor == 0, name,
                "the grid is " + std::to_string(rows) + " x " + std::to_string(columns) +
                    " and the factor is " + std::to_string(factor) +
                    "; wanted is a factor that divides both");
    const shape<3> coarse{{x.size[0], fine / (factor * factor), d * factor * factor}};
    if (inverse) {
      check::size(name, "x", x, coarse);
      check::size(name, "y", y, shape<3>{{x.size[0], fine, d}});
    } else {
      check::size(name, "y", y, coarse);
    }
    check::unit_stride(name, "x", x);
    check::unit_stride(name, "y", y);
  }
  double flops() const { return 0; }
  double bytes() const { return check::total_bytes(x, y); }
};

/// Depthwise 3 x 3 convolution of a grid of tokens, stride 1, zero padding.
///
///   y[b, i c + j, d] = bias[d] + sum_{u,v} weight[d,u,v] x[b, (i+u-1) c + (j+v-1), d]
///
/// Shapes    x, y (B, r c, D); weight (D, 3, 3); bias (D) or empty
/// Layout    x, y: unit stride over d
/// Numerics  accum, starting at the bias, u outside, ascending
template <engine E>
struct depthwise_conv2d {
  static constexpr const char* name = "depthwise_conv2d";
  in<E, 3> x{};
  in_accum<E, 3> weight{};
  in_accum<E, 1> bias{};
  out<E, 3> y{};
  index_t rows = 0, columns = 0;

  void check() const {
    check::given(name, "x", x);
    detail::check_grid(name, "x", x.size[1], rows, columns);
    check::size(name, "weight", weight, shape<3>{{x.size[2], 3, 3}});
    check::size_if_given(name, "bias", bias, shape<1>{{x.size[2]}});
    check::size(name, "y", y, x.shape());
    check::unit_stride(name, "x", x);
    check::unit_stride(name, "y", y);
  }
  double flops() const { return 18.0 * double(x.count()); }
  double bytes() const { return check::total_bytes(x, weight, bias, y); }
};

/// dx[b,s] = sum_{u,v} weight[u,v] dy[b, s - (u-1, v-1)];  dweight[u,v] += sum dy x;  dbias += sum
/// dy. Sums over (b, row, column) ascending.
template <engine E>
struct depthwise_conv2d_backward {
  static constexpr const char* name = "depthwise_conv2d_backward";
  in<E, 3> x{};
  in_accum<E, 3> weight{};
  in<E, 3> dy{};
  out<E, 3> dx{};
  out_accum<E, 3> dweight{};  // or empty
  out_accum<E, 1> dbias{};    // or empty
  index_t rows = 0, columns = 0;

  void check() const {
    check::given(name, "x", x);
    detail::check_grid(name, "x", x.size[1], rows, columns);
    check::size(name, "weight", weight, shape<3>{{x.size[2], 3, 3}});
    check::size(name, "dy", dy, x.shape());
    check::size(name, "dx", dx, x.shape());
    check::size_if_given(name, "dweight", dweight, weight.shape());
    check::size_if_given(name, "dbias", dbias, shape<1>{{x.size[2]}});
    check::unit_stride(name, "x", x);
    check::unit_stride(name, "dy", dy);
    check::unit_stride(name, "dx", dx);
  }
  double flops() const { return 36.0 * double(x.count()); }
  double bytes() const { return check::total_bytes(x, weight, dy, dx, dweight, dbias); }
};

}  // namespace mlmamba::ops
