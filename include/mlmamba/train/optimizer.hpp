// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// AdamW over all trainable parameters of a model, with decay groups, clipping and master weights.
#pragma once

#include <algorithm>
#include <cmath>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/nn/module.hpp"
#include "mlmamba/ops/adamw.hpp"
#include "mlmamba/ops/reduce.hpp"
#include "mlmamba/ops/series.hpp"

namespace mlmamba::train {

struct optimizer_options {
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double weight_decay = 0.1;
  double clip = 1.0;               ///< largest global norm of the gradient; 0: no clipping
  bool decay_convolutions = true;  ///< do convolution kernels decay? (the original's do)
  bool decay_embeddings = true;    ///< do embeddings of tokens and positions?
  /// Path prefix to factor of the learning rate; the longest prefix that fits wins.
  std::vector<std::pair<std::string, double>> rate_factors{};

  void check() const {
    const auto share = [](double b) { return b >= 0 && b < 1; };
    if (!share(beta1) || !share(beta2) || !(epsilon >= 0))
      fail("optimizer: beta1 ", beta1, ", beta2 ", beta2, ", epsilon ", epsilon,
           "; 0 <= beta < 1 and epsilon >= 0 are wanted");
    if (!(weight_decay >= 0) || !(clip >= 0))
      fail("optimizer: weight decay ", weight_decay, ", clip ", clip, "; at least 0 is wanted");
    for (const auto& [prefix, factor] : rate_factors)
      if (!(factor >= 0))
        fail("optimizer: rate factor ", factor, " of \"", prefix, "\"; at least 0 is wanted");
  }
};

namespace detail {
inline bool path_below(std::string_view path, std::string_view prefix) {
  return path.starts_with(prefix) &&
         (prefix.empty() || path.size() == prefix.size() || path[prefix.size()] == '.');
}
}  // namespace detail

/// Does weight decay act on a parameter? On matrices and kernels, by the name's last part and the
/// rank: not on biases, norms, gains, nor the recurrence's own A_log, D and dt_bias.
inline bool decays(std::string_view path, int rank, const optimizer_options& o) {
  const std::string_view leaf = path.substr(path.rfind('.') + 1);
  for (std::string_view name : {"bias", "gamma", "A_log", "D", "dt_bias"})
    if (leaf == name) return false;
  // A mixer of several directions has those of the recurrence once for each: A_log_b, D_c, ...
  for (std::string_view name : {"A_log", "D", "dt_bias"})
    if (leaf.size() == name.size() + 2 && leaf.starts_with(name) && leaf[name.size()] == '_' &&
        leaf.back() >= 'b' && leaf.back() <= 'd')
      return false;
  if (rank < 2) return false;
  std::string_view parent = path.substr(0, path.size() - std::min(path.size(), leaf.size() + 1));
  parent = parent.substr(parent.rfind('.') + 1);
  if (parent.find("norm") != std::string_view::npos) return false;
  if (parent.find("conv") != std::string_view::npos) return o.decay_convolutions;
  const bool embedding = parent.find("embedding") != std::string_view::npos ||
                         leaf == "pos_embed" || leaf == "cls_token" || leaf == "reg_token";
  return embedding ? o.decay_embeddings : true;
}

/// The moments and master weights of a model's trainable parameters, and the update.
///
/// Numerics  moments and master weights in accum; a parameter narrower than accum has a master,
///           and is its rounded copy
/// Order     parameters in declaration order, so that sums over all have one order
template <engine E>
class optimizer {
 public:
  using accum = typename E::accum;
  using memory = typename E::memory;
  struct slot {
    std::string path;
    bool decay = false;
    double rate_factor = 1;
    tensor<accum, 1, memory> m, v, master;
  };

  /// Gives every trainable parameter a gradient and moments of zeros.
  template <class Model>
  optimizer(Model& model, optimizer_options o) : options_(std::move(o)) {
    options_.check();
    std::vector<bool> used(options_.rate_factors.size(), false);
    nn::allocate_grads(model);
    nn::for_each_parameter(model, [&](const std::string& path, auto& p) {
      using P = std::remove_cvref_t<decltype(p)>;
      if (!p.trainable) return;
      slot s{path, decays(path, P::rank, options_), factor_of(path, used), {}, {}, {}};
      s.m = tensor<accum, 1, memory>(shape<1>{{p.value.count()}});
      s.v = tensor<accum, 1, memory>(shape<1>{{p.value.count()}});
      if constexpr (!std::is_same_v<typename P::value_type, accum>) s.master = widened(p);
      slots_.push_back(std::move(s));
    });
    if (slots_.empty()) fail("optimizer: every parameter is frozen; at least one is to be trained");
    for (std::size_t i = 0; i < used.size(); ++i)
      if (!used[i])
        fail("optimizer: rate factor of \"", options_.rate_factors[i].first,
             "\"; no trainable parameter has this prefix");
  }

  const std::vector<slot>& slots() const { return slots_; }
  std::vector<slot>& slots() { return slots_; }
  const optimizer_options& options() const { return options_; }
  index_t updates() const { return updates_; }
  void set_updates(index_t n) { updates_ = n; }

  template <class Model>
  void zero_grads(Model& model) {
    nn::for_each_parameter(model, [](const std::string&, auto& p) {
      if (p.grad) allocator<memory>::fill(p.grad.data(), 0, p.grad.bytes());
    });
  }

  /// The norm of all gradients together.
  template <class Model>
  double gradient_norm(context_of<E>& ctx, Model& model) {
    auto frame = ctx.scratch.make_frame();
    using sum = typename ops::sum_squares<E>::sum_type;
    const auto total = ctx.scratch.template make<sum, 1>(shape<1>{{1}});
    allocator<memory>::fill(total.data, 0, sizeof(sum));
    std::vector<ops::sum_squares<E>> parts;
    nn::for_each_parameter(model, [&](const std::string&, auto& p) {
      if (p.grad) parts.push_back({.x = p.grad.view().flat(), .y = total});
    });
    ops::run_series(ctx, std::span<const ops::sum_squares<E>>(parts));
    return std::sqrt(double(math::real(to_host(total).data()[0])));
  }

  /// Clips and updates. Returns the norm before clipping.
  ///
  ///   grad_scale = min(1, clip / (norm + 1e-6))
  ///
  /// Errors    mlmamba::error if the norm is not finite: nothing has changed then
  template <class Model>
  double update(context_of<E>& ctx, Model& model, double learning_rate) {
    const double norm = gradient_norm(ctx, model);
    if (!std::isfinite(norm))
      fail("optimizer: the gradient of update ", updates_ + 1, " has the norm ", norm,
           "; a finite one is wanted (a lower learning rate or a longer warm-up may help)");
    const double scale = options_.clip > 0 ? std::min(1.0, options_.clip / (norm + 1e-6)) : 1.0;
    ++updates_;
    std::size_t i = 0;
    updates_of<accum> wide;
    updates_of<typename E::value> narrow;  // stays empty if that is the same
    nn::for_each_parameter(model, [&](const std::string& path, auto& p) {
      using T = typename std::remove_cvref_t<decltype(p)>::value_type;
      if (!p.trainable) return;
      if (i == slots_.size() || slots_[i].path != path)
        fail("optimizer: \"", path, "\" is trainable and was not when the optimizer was made");
      slot& s = slots_[i++];
      const ops::adamw<E, T> one{.weight = p.value.view().flat(),
                                 .master = s.master.view(),
                                 .grad = p.grad.view().flat(),
                                 .m = s.m.view(),
                                 .v = s.v.view(),
                                 .learning_rate = learning_rate * s.rate_factor,
                                 .beta1 = options_.beta1,
                                 .beta2 = options_.beta2,
                                 .epsilon = options_.epsilon,
                                 .weight_decay = s.decay ? options_.weight_decay : 0.0,
                                 .grad_scale = scale,
                                 .step = updates_};
      if constexpr (std::is_same_v<T, accum>) {
        wide.push_back(one);
      } else if constexpr (std::is_same_v<T, typename E::value>) {
        narrow.push_back(one);
      } else {
        run(ctx, one);
      }
    });
    ops::run_series(ctx, std::span<const ops::adamw<E, accum>>(wide));
    ops::run_series(ctx, std::span<const ops::adamw<E, typename E::value>>(narrow));
    return norm;
  }

 private:
  template <class T>
  using updates_of = std::vector<ops::adamw<E, T>>;

  double factor_of(std::string_view path, std::vector<bool>& used) const {
    std::size_t longest = 0;
    double factor = 1;
    for (std::size_t i = 0; i < used.size(); ++i) {
      const auto& [prefix, f] = options_.rate_factors[i];
      if (!detail::path_below(path, prefix)) continue;
      used[i] = true;
      if (prefix.size() + 1 > longest) longest = prefix.size() + 1, factor = f;
    }
    return factor;
  }
  template <class P>
  static tensor<accum, 1, memory> widened(const P& p) {
    const auto narrow = to_host(p.value.view());
    tensor<accum, 1> wide(shape<1>{{narrow.count()}});
    for (index_t i = 0; i < wide.count(); ++i) wide(i) = accum(narrow.data()[i]);
    tensor<accum, 1, memory> out(shape<1>{{wide.count()}});
    from_host(out.view(), std::as_const(wide).view());
    return out;
  }

  optimizer_options options_;
  std::vector<slot> slots_;
  index_t updates_ = 0;
};

}  // namespace mlmamba::train
