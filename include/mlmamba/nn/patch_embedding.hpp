// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Pictures to tokens: a convolution whose kernel is its stride, done as one matrix product.
#pragma once

#include <cmath>

#include "mlmamba/nn/module.hpp"
#include "mlmamba/ops/gemm.hpp"
#include "mlmamba/ops/patchify.hpp"
#include "mlmamba/ops/reduce.hpp"

namespace mlmamba::nn {

/// Cuts pictures into p x p patches and maps each to a token.
///
///   y[b, r (W/p) + c, d] = bias[d] + sum_{ch,i,j} weight[d,ch,i,j] x[b, ch, r p + i, c p + j]
///
/// Shapes    x (B, C, H, W); y (B, (H/p)(W/p), D), row-major; rows and columns beyond the last
///           whole patch are ignored
/// Names     proj.weight (D, C, p, p), proj.bias (D), as timm
template <engine E>
struct patch_embedding {
  using engine_type = E;
  struct projection {
    parameter<E, 4> weight;  // (D, C, p, p)
    parameter<E, 1> bias;    // (D) or absent
    static void fields(auto& self, auto&& f) { f("weight", self.weight), f("bias", self.bias); }
    /// As a convolution: uniform within 1 / sqrt(C p p).
    static void initialise(auto& self, random_stream r) {
      const auto& n = self.weight.value.shape().n;
      const double bound = 1 / std::sqrt(double(n[1] * n[2] * n[3]));
      random_stream w = r.fork("weight"), b = r.fork("bias");
      fill(self.weight, [&] { return w.uniform(-bound, bound); });
      if (self.bias) fill(self.bias, [&] { return b.uniform(-bound, bound); });
    }
  };
  projection proj;

  explicit patch_embedding(index_t patch, index_t d_model, bool bias = true, index_t channels = 3) {
    if (patch < 1 || d_model < 1 || channels < 1)
      fail<shape_error>("patch_embedding: patch ", patch, ", width ", d_model, ", channels ",
                        channels, "; wanted is at least 1 each");
    proj.weight = parameter<E, 4>({d_model, channels, patch, patch});
    if (bias) proj.bias = parameter<E, 1>({d_model});
  }
  static void fields(auto& self, auto&& f) { f("proj", self.proj); }

  struct saved {
    in<E, 2> patches;  // (B T, C p p)
    shape<4> pixels;
  };

  index_t patch() const { return proj.weight.value.size(2); }
  index_t d_model() const { return proj.weight.value.size(0); }

  out<E, 3> forward(context_of<E>& ctx, in<E, 4> x, saved& s) const {
    if (x.size[1] != proj.weight.value.size(1))
      fail<shape_error>("patch_embedding: pictures are ", to_string(x), "; wanted are ",
                        proj.weight.value.size(1), " channels");
    const shape<3> n = ops::patchify<E>::patches(x.shape(), patch());
    out<E, 3> cut = ctx.template make<E, 3>(n);
    run(ctx, ops::patchify<E>{.x = x, .y = cut, .patch = patch()});
    s.patches = rows(in<E, 3>(cut));
    s.pixels = x.shape();
    out<E, 3> y = ctx.template make<E, 3>({{n.n[0], n.n[1], d_model()}});
    run(ctx, ops::gemm<E, typename E::value, typename E::weight>{
                 .x = s.patches, .w = matrix(), .bias = proj.bias.value, .y = rows(y)});
    return y;
  }

  /// Adds to the gradients. Returns those of the pixels if they are wanted, else an empty view.
  out<E, 4> backward(context_of<E>& ctx, in<E, 3> dy, const saved& s, bool want_pixels = true) {
    const in<E, 2> d = rows(dy);
    if (proj.weight.grad) {
      const shape<2> n{{d_model(), s.patches.size[1]}};
      run(ctx, ops::gemm<E, typename E::accum>{.x = d.transposed(),
                                               .w = s.patches.transposed(),
                                               .y = proj.weight.grad.view().reshape(n),
                                               .accumulate = true});
    }
    if (proj.bias.grad) run(ctx, ops::sum_rows<E>{.x = d, .y = proj.bias.grad});
    if (!want_pixels) return {};
    out<E, 4> dx = ctx.template make<E, 4>(s.pixels);
    auto frame = ctx.scratch.make_frame();
    out<E, 3> dcut = ctx.template make<E, 3>(ops::patchify<E>::patches(s.pixels, patch()));
    run(ctx, ops::gemm<E, typename E::value, typename E::weight>{
                 .x = d, .w = matrix().transposed(), .y = rows(dcut)});
    run(ctx, ops::patchify_backward<E>{.dy = dcut, .dx = dx, .patch = patch()});
    return dx;
  }

 private:
  in_weight<E, 2> matrix() const {
    return proj.weight.value.view().reshape(
        shape<2>{{d_model(), proj.weight.value.count() / d_model()}});
  }
};

}  // namespace mlmamba::nn
