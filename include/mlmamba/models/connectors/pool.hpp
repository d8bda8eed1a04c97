// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Connectors that merge neighbouring tokens before an MLP: average pooling, pixel shuffle.
#pragma once

#include <numeric>

#include "mlmamba/models/connectors/mlp.hpp"

namespace mlmamba {

/// Adaptive average pooling to a smaller grid, then Linear, GELU, Linear.
///
/// Shapes    (B, T, d_vision) -> (B, out_rows out_cols, d_model)
/// Names     projector.0, projector.2
template <engine E>
struct average_pool_connector {
  using engine_type = E;
  static constexpr std::string_view kind = "average-pool";
  struct options {
    index_t out_rows = 0, out_cols = 0;  ///< 0: half the grid, rounded up
  };
  connector_shape shape;
  index_t out_rows, out_cols;
  token_projector<E> projector;

  explicit average_pool_connector(connector_shape n) : average_pool_connector(n, options{}) {}
  average_pool_connector(connector_shape n, options o)
      : shape(detail::checked("average_pool_connector", n)),
        out_rows(o.out_rows > 0 ? o.out_rows : half_grid(n.grid_rows)),
        out_cols(o.out_cols > 0 ? o.out_cols : half_grid(n.grid_cols)),
        projector({.kind = projector_kind::gelu_mlp, .d_in = n.d_vision, .d_model = n.d_model}) {}
  static void fields(auto& self, auto&& f) { f("projector", self.projector); }
  index_t tokens() const { return out_rows * out_cols; }

  struct saved {
    typename token_projector<E>::saved projector;
  };
  out<E, 3> forward(context_of<E>& ctx, in<E, 3> x, saved& s) const {
    detail::check_vision_tokens<E>("average_pool_connector", shape, x);
    out<E, 3> small = ctx.template make<E, 3>({{x.size[0], out_rows * out_cols, x.size[2]}});
    run(ctx, ops::adaptive_pool<E>{.x = x,
                                   .y = small,
                                   .rows = shape.grid_rows,
                                   .columns = shape.grid_cols,
                                   .out_rows = out_rows,
                                   .out_columns = out_cols});
    return projector.forward(ctx, small, s.projector);
  }
  out<E, 3> backward(context_of<E>& ctx, in<E, 3> dy, const saved& s) {
    const in<E, 3> dsmall = projector.backward(ctx, dy, s.projector);
    out<E, 3> dx = ctx.template make<E, 3>({{dy.size[0], shape.tokens(), shape.d_vision}});
    run(ctx, ops::adaptive_pool_backward<E>{.dy = dsmall,
                                            .dx = dx,
                                            .rows = shape.grid_rows,
                                            .columns = shape.grid_cols,
                                            .out_rows = out_rows,
                                            .out_columns = out_cols});
    return dx;
  }
};

/// Folds f x f neighbouring tokens into one of f f d_vision channels, then Linear, GELU, Linear:
/// nothing is averaged away.
///
/// Shapes    (B, T, d_vision) -> (B, T / f^2, d_model)
/// Names     projector.0, projector.2
/// Errors    shape_error if f does not divide the grid
/// Source    Shi et al. 2016, arXiv:1609.05158; as connector, Chen et al. 2024, arXiv:2404.16821
template <engine E>
struct pixel_shuffle_connector {
  using engine_type = E;
  static constexpr std::string_view kind = "pixel-shuffle";
  struct options {
    index_t factor = 0;  ///< 0: the smallest above 1 that divides the grid, else 1
  };
  connector_shape shape;
  index_t factor;
  token_projector<E> projector;

  explicit pixel_shuffle_connector(connector_shape n) : pixel_shuffle_connector(n, options{}) {}
  pixel_shuffle_connector(connector_shape n, options o)
      : shape(detail::checked("pixel_shuffle_connector", n)),
        factor(o.factor > 0 ? o.factor : smallest_factor(n)),
        projector({.kind = projector_kind::gelu_mlp,
                   .d_in = n.d_vision * factor * factor,
                   .d_model = n.d_model}) {
    if (n.grid_rows % factor != 0 || n.grid_cols % factor != 0)
      fail<shape_error>("pixel_shuffle_connector: factor ", factor, " and a grid of ", n.grid_rows,
                        " x ", n.grid_cols, "; wanted is a factor that divides both");
  }
  static void fields(auto& self, auto&& f) { f("projector", self.projector); }
  index_t tokens() const { return shape.tokens() / (factor * factor); }

  struct saved {
    typename token_projector<E>::saved projector;
  };
  out<E, 3> forward(context_of<E>& ctx, in<E, 3> x, saved& s) const {
    detail::check_vision_tokens<E>("pixel_shuffle_connector", shape, x);
    const index_t f = factor * factor;
    out<E, 3> folded = ctx.template make<E, 3>({{x.size[0], x.size[1] / f, x.size[2] * f}});
    run(ctx, ops::pixel_shuffle<E>{.x = x,
                                   .y = folded,
                                   .rows = shape.grid_rows,
                                   .columns = shape.grid_cols,
                                   .factor = factor});
    return projector.forward(ctx, folded, s.projector);
  }
  out<E, 3> backward(context_of<E>& ctx, in<E, 3> dy, const saved& s) {
    const in<E, 3> dfolded = projector.backward(ctx, dy, s.projector);
    out<E, 3> dx = ctx.template make<E, 3>({{dy.size[0], shape.tokens(), shape.d_vision}});
    run(ctx, ops::pixel_shuffle<E>{.x = dfolded,
                                   .y = dx,
                                   .rows = shape.grid_rows,
                                   .columns = shape.grid_cols,
                                   .factor = factor,
                                   .inverse = true});
    return dx;
  }

 private:
  static index_t smallest_factor(const connector_shape& n) {
    const index_t common = std::gcd(n.grid_rows, n.grid_cols);
    for (index_t f = 2; f <= common; ++f)
      if (common % f == 0) return f;
    return 1;
  }
};

}  // namespace mlmamba
