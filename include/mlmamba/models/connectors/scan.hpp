// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The Mamba-2 scan connector of ML-Mamba: stem, bidirectional Mamba-2 blocks, projector.
#pragma once

#include <cmath>
#include <string_view>
#include <vector>

#include "mlmamba/models/connector.hpp"
#include "mlmamba/models/connectors/projector.hpp"
#include "mlmamba/nn/mlp.hpp"
#include "mlmamba/nn/multi_scan_mamba2.hpp"
#include "mlmamba/nn/norm.hpp"

namespace mlmamba {

/// What the scan part of a connector is made of.
struct scan_options {
  nn::mixer_config mixer;  ///< its d_model is the width; 0: that of the language model
  index_t n_layer = 2;
  /// The published connector: no norm before the mixer, and LayerNorm and SwiGLU in a residual
  /// branch behind it ("advanced"). False: RMSNorm before the mixer and no SwiGLU ("basic"; the
  /// paper names it, its code is not public, so this is the usual Mamba block).
  bool swiglu = true;
  projector_kind projector = projector_kind::fused_gelu_mlp;
  index_t out_rows = 14, out_cols = 14;  ///< of the LDP projectors
};

/// Options for a width, with the published sizes where they fit: heads of 64 channels, 128 states;
/// less for narrow models.
inline scan_options scan_options_for(const connector_shape& n) {
  scan_options o;
  o.mixer.d_model = n.d_model;
  o.mixer.d_state = n.d_model >= 512 ? 128 : n.d_model >= 128 ? 64 : 16;
  while (o.mixer.d_inner() % o.mixer.headdim != 0) --o.mixer.headdim;
  o.out_rows = n.grid_rows >= 14 ? 14 : (n.grid_rows + 1) / 2;
  o.out_cols = n.grid_cols >= 14 ? 14 : (n.grid_cols + 1) / 2;
  return o;
}

/// One block of the scan part:  h += mixer(h);  h += mlp(norm(h))
///
/// Numerics  h in accum; the branches in value
/// Names     mixer, mlp.w1, mlp.w2, mlp.w3, norm; the basic block has mixer and norm
template <engine E, class Orders>
struct scan_block {
  using engine_type = E;
  using V = typename E::value;
  nn::multi_scan_mamba2<E, Orders> mixer;
  std::vector<nn::swiglu<E>> mlp;                   // one, or none in a basic block
  std::vector<nn::layer_norm<E, nn::wide>> norm;    // as many
  std::vector<nn::rms_norm<E, nn::wide>> pre_norm;  // one in a basic block

  scan_block(const scan_options& o, index_t rows, index_t cols) : mixer(o.mixer, rows, cols) {
    if (o.swiglu) {
      mlp.emplace_back(o.mixer.d_model, o.mixer.d_model, o.mixer.d_model);
      norm.emplace_back(o.mixer.d_model, 1e-5);
    } else {
      pre_norm.emplace_back(o.mixer.d_model, o.mixer.norm_epsilon);
    }
  }
  static void fields(auto& self, auto&& f) {
    f("mixer", self.mixer);
    if (self.mlp.empty()) {
      f("norm", self.pre_norm[0]);
    } else {
      f("mlp", self.mlp[0]), f("norm", self.norm[0]);
    }
  }

  struct saved {
    typename nn::multi_scan_mamba2<E, Orders>::saved mixer;
    typename nn::swiglu<E>::saved mlp;
    typename nn::layer_norm<E, nn::wide>::saved norm;
    typename nn::rms_norm<E, nn::wide>::saved pre_norm;
  };
  out_accum<E, 3> forward(context_of<E>& ctx, in_accum<E, 3> h, saved& s) const {
    if (mlp.empty())
      return nn::add(ctx, h, mixer.forward(ctx, pre_norm[0].forward(ctx, h, s.pre_norm), s.mixer));
    const out_accum<E, 3> u = nn::add(ctx, h, mixer.forward(ctx, nn::to<V>(ctx, h), s.mixer));
    return nn::add(ctx, u, mlp[0].forward(ctx, norm[0].forward(ctx, u, s.norm), s.mlp));
  }
  out_accum<E, 3> backward(context_of<E>& ctx, in_accum<E, 3> dy, const saved& s) {
    const out_accum<E, 3> d = nn::to<typename E::accum>(ctx, dy);
    auto frame = ctx.scratch.make_frame();
    if (mlp.empty()) {
      const in<E, 3> dm = mixer.backward(ctx, nn::to<V>(ctx, dy), s.mixer);
      pre_norm[0].backward_into(ctx, dm, d, s.pre_norm, true);
      return d;
    }
    // y = u + mlp(norm(u)): d is dy, and becomes du
    norm[0].backward_into(ctx, mlp[0].backward(ctx, nn::to<V>(ctx, dy), s.mlp), d, s.norm, true);
    // u = h + mixer(h): d becomes dh
    nn::add_to(ctx, d, mixer.backward(ctx, nn::to<V>(ctx, d), s.mixer));
    return d;
  }
};

/// ML-Mamba's connector (MSC).
///
///   h = gelu(mlp.0(x));   h = block_i(h) for each layer;   h = norm_f(h);   y = projector(h)
///
/// Orders: nn::both_ways is BSM, the published one; nn::cross_scan is CSM. Options beyond those of
/// the published connector: n_layer, swiglu, projector.
///
/// Shapes    (B, T, d_vision) -> (B, T, d_model); an LDP projector changes T to its grid
/// Numerics  the residual stream in accum (the original under autocast keeps half precision)
/// Names     mlp.0, bidirectional_mamba.layers.I.{mixer,mlp,norm}, bidirectional_mamba.norm_f,
///           projector.projector.*: beside those of the language model, not below "projector"
/// Source    Huang et al. 2024, arXiv:2407.19832, section 3.2, and its code, which differs
template <engine E, class Orders = nn::both_ways>
struct scan_connector {
  using engine_type = E;
  using options = scan_options;
  static constexpr std::string_view kind =
      Orders::directions.size() == 2 ? "mamba2_scan_connector" : "mamba2_cross_scan_connector";
  static constexpr bool names_are_top_level = true;

  struct stem_type {
    nn::linear<E> linear;
    static void fields(auto& self, auto&& f) { f("0", self.linear); }
  };
  struct scan_type {
    std::vector<scan_block<E, Orders>> layers;
    nn::layer_norm<E, nn::wide> norm_f;
    static void fields(auto& self, auto&& f) { f("layers", self.layers), f("norm_f", self.norm_f); }
  };
  struct projector_type {
    token_projector<E> projector;
    static void fields(auto& self, auto&& f) { f("projector", self.projector); }
  };

  connector_shape shape;
  stem_type mlp;
  scan_type bidirectional_mamba;
  projector_type projector;

  explicit scan_connector(connector_shape n) : scan_connector(n, scan_options_for(n)) {}
  scan_connector(connector_shape n, scan_options o)
      : shape(detail::checked("scan_connector", n)),
        mlp{nn::linear<E>(n.d_vision, width(n, o), true, activation::gelu)},
        bidirectional_mamba{{}, nn::layer_norm<E, nn::wide>(width(n, o), 1e-5)},
        projector{
            token_projector<E>(projector_config{o.projector, width(n, o), n.d_model, n.grid_rows,
                                                n.grid_cols, o.out_rows, o.out_cols})} {
    o.mixer.d_model = width(n, o);
    if (o.n_layer < 0 || o.n_layer > 1024)
      fail<shape_error>("scan_connector: n_layer is ", o.n_layer, "; 0 to 1024 is wanted");
    for (index_t i = 0; i < o.n_layer; ++i)
      bidirectional_mamba.layers.emplace_back(o, n.grid_rows, n.grid_cols);
    options_ = o;
  }
  static void fields(auto& self, auto&& f) {
    f("mlp", self.mlp), f("bidirectional_mamba", self.bidirectional_mamba);
    f("projector", self.projector);
  }
  /// As the original: torch's rule, but in the scan part biases are zero and the output projections
  /// are divided by the square root of their number.
  static void initialise(auto& self, random_stream r) {
    nn::initialise(self.mlp, r.fork("mlp"));
    nn::initialise(self.bidirectional_mamba, r.fork("bidirectional_mamba"));
    nn::initialise(self.projector, r.fork("projector"));
    random_stream s = r.fork("out_proj");
    const double layers = double(self.bidirectional_mamba.layers.size());
    for (auto& b : self.bidirectional_mamba.layers) {
      const double bound = 1 / std::sqrt(double(b.mixer.out_proj.d_in()) * layers);
      nn::fill(b.mixer.out_proj.weight, [&] { return s.uniform(-bound, bound); });
      for (auto& m : b.mlp)
        for (auto* l : {&m.w1, &m.w2, &m.w3}) nn::fill(l->bias, [] { return 0.0; });
    }
  }
  index_t tokens() const { return projector.projector.config.tokens(); }
  const scan_options& made_with() const { return options_; }

  struct saved {
    typename nn::linear<E>::saved mlp;
    std::vector<typename scan_block<E, Orders>::saved> layers;
    typename nn::layer_norm<E, nn::wide>::saved norm_f;
    typename token_projector<E>::saved projector;
    in<E, 3> stem, scanned;  // (B, T, width): what stem and scan part gave
  };
  out<E, 3> forward(context_of<E>& ctx, in<E, 3> x, saved& s) const {
    detail::check_vision_tokens<E>("scan_connector", shape, x);
    const auto& scan = bidirectional_mamba;
    s.stem = mlp.linear.forward(ctx, x, s.mlp);
    in_accum<E, 3> h = nn::to<typename E::accum>(ctx, s.stem);
    s.layers.resize(scan.layers.size());
    for (std::size_t i = 0; i < scan.layers.size(); ++i)
      h = scan.layers[i].forward(ctx, h, s.layers[i]);
    s.scanned = scan.norm_f.forward(ctx, h, s.norm_f);
    return projector.projector.forward(ctx, s.scanned, s.projector);
  }
  out<E, 3> backward(context_of<E>& ctx, in<E, 3> dy, const saved& s) {
    auto& scan = bidirectional_mamba;
    in_accum<E, 3> d =
        scan.norm_f.backward(ctx, projector.projector.backward(ctx, dy, s.projector), s.norm_f);
    for (std::size_t i = scan.layers.size(); i-- > 0;)
      d = scan.layers[i].backward(ctx, d, s.layers[i]);
    return mlp.linear.backward(ctx, nn::to<typename E::value>(ctx, d), s.mlp);
  }

 private:
  static index_t width(const connector_shape& n, const scan_options& o) {
    return o.mixer.d_model > 0 ? o.mixer.d_model : n.d_model;
  }
  scan_options options_;
};

/// The same with four scans: rows, columns, and both from the end.
template <engine E>
using cross_scan_connector = scan_connector<E, nn::cross_scan>;

}  // namespace mlmamba
