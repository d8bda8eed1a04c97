// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A residual block of a language model: a mixer, and perhaps an MLP.
#pragma once

#include <vector>

#include "mlmamba/models/config.hpp"
#include "mlmamba/nn/functional.hpp"
#include "mlmamba/nn/mlp.hpp"
#include "mlmamba/nn/norm.hpp"
#include "mlmamba/ops/mamba2_scan.hpp"

namespace mlmamba {

/// One residual block: r += mixer(norm(r)), and with an MLP r += mlp(norm2(r)).
template <engine E, template <class> class Mixer>
struct mamba_block {
  using engine_type = E;
  nn::rms_norm<E, nn::wide> norm;
  Mixer<E> mixer;
  std::vector<nn::rms_norm<E, nn::wide>> norm2;  // one or none
  std::vector<nn::gated_mlp<E>> mlp;             // one or none

  explicit mamba_block(const mamba_config& c)
      : norm(c.mixer.d_model, c.norm_epsilon), mixer(c.mixer) {
    if (c.d_intermediate > 0) {
      norm2.emplace_back(c.mixer.d_model, c.norm_epsilon);
      mlp.emplace_back(c.mixer.d_model, c.d_intermediate);
    }
  }
  static void fields(auto& self, auto&& f) {
    f("norm", self.norm), f("mixer", self.mixer);
    if (!self.mlp.empty()) f("norm2", self.norm2[0]), f("mlp", self.mlp[0]);
  }

  struct saved {
    typename nn::rms_norm<E, nn::wide>::saved norm, norm2;
    typename Mixer<E>::saved mixer;
    typename nn::gated_mlp<E>::saved mlp;
  };

  /// The new residual, in memory of its own: the norm's backward reads the old one.
  out_accum<E, 3> forward(context_of<E>& ctx, in_accum<E, 3> r, saved& s) const {
    out_accum<E, 3> u = nn::add(ctx, r, mixer.forward(ctx, norm.forward(ctx, r, s.norm), s.mixer));
    if (mlp.empty()) return u;
    return nn::add(ctx, u, mlp[0].forward(ctx, norm2[0].forward(ctx, u, s.norm2), s.mlp));
  }
  /// Turns the gradient of the new residual into that of the old one, in place.
  void backward(context_of<E>& ctx, out_accum<E, 3> dr, const saved& s) {
    auto frame = ctx.scratch.make_frame();
    using V = typename E::value;
    if (!mlp.empty())
      norm2[0].backward_into(ctx, mlp[0].backward(ctx, nn::to<V>(ctx, dr), s.mlp), dr, s.norm2,
                             true);
    norm.backward_into(ctx, mixer.backward(ctx, nn::to<V>(ctx, dr), s.mixer), dr, s.norm, true);
  }
  /// Inference: a residual and the branch that the next norm adds to it.
  struct stream {
    out_accum<E, 3> sum{};
    out<E, 3> branch{};
    bool pending = false;
    nn::left_norm<E> left{};
    ops::residual_sum<E, typename E::accum> take() {
      if (!pending) return {};
      pending = false;
      ops::residual_sum<E, typename E::accum> all{.branch = rows(branch), .sum = rows(sum)};
      if (left.width == 0) return all;
      all.squares = rows(in_accum<E, 3>(left.squares));
      all.squares_of = typename E::real(left.width), all.squares_epsilon = left.epsilon;
      left.width = 0;
      return all;
    }
  };
  /// `like` (B, L, d_model).
  static stream make_stream(context_of<E>& ctx, in<E, 3> like, const mamba_config& c) {
    stream x{.sum = nn::to<typename E::accum>(ctx, like), .branch = nn::like(ctx, like)};
    if constexpr (requires(ops::mamba2_scan<E> op, Mixer<E> m, typename Mixer<E>::state st) {
                    prefers(ctx, op);
                    m.prefill(ctx, like, st, x.branch, x.left);
                  })
      x.left.squares =
          ctx.template make_accum<E, 3>({{like.size[0], like.size[1], c.mixer.nheads()}});
    return x;
  }
  void prefill(context_of<E>& ctx, stream& x, typename Mixer<E>::state& st) const {
    auto frame = ctx.scratch.make_frame();
    saved s;
    const in<E, 3> u = norm.forward(ctx, x.sum, s.norm, x.take());
    if constexpr (requires { mixer.prefill(ctx, u, st, x.branch, x.left); }) {
      mixer.prefill(ctx, u, st, x.branch, x.left);
    } else if constexpr (requires { mixer.prefill(ctx, u, st, x.branch); }) {
      mixer.prefill(ctx, u, st, x.branch);
    } else {
      nn::assign(ctx, x.branch, mixer.prefill(ctx, u, st));
    }
    x.pending = true;
    if (mlp.empty()) return;
    mlp[0].forward(ctx, norm2[0].forward(ctx, x.sum, s.norm2, x.take()), s.mlp, x.branch);
    x.pending = true;
  }
  void step(context_of<E>& ctx, out_accum<E, 3> r, typename Mixer<E>::state& st) const {
    auto frame = ctx.scratch.make_frame();
    bool done = false;
    if constexpr (requires { mixer.step_onto(ctx, r, norm, st); })
      done = mixer.step_onto(ctx, r, norm, st);
    saved s;
    if (!done) nn::add_to(ctx, r, mixer.step(ctx, norm.forward(ctx, r, s.norm), st));
    add_mlp(ctx, r);
  }

 private:
  void add_mlp(context_of<E>& ctx, out_accum<E, 3> r) const {
    saved s;
    if (!mlp.empty())
      nn::add_to(ctx, r, mlp[0].forward(ctx, norm2[0].forward(ctx, r, s.norm2), s.mlp));
  }
};

}  // namespace mlmamba
