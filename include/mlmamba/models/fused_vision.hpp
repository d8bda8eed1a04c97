// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Two vision encoders side by side, their tokens joined channel by channel.
#pragma once

#include <string>
#include <utility>

#include "mlmamba/models/vision_encoder.hpp"
#include "mlmamba/ops/elementwise.hpp"

namespace mlmamba {

/// y[b,t,:] = (first(x)[b,t,:], second(x)[b,t,:])
///
/// Shapes    pictures of the towers of `first`, then of `second`; y (B, T, d_first + d_second)
/// Names     the parts are named at construction: "dino_featurizer" and "siglip_featurizer"
/// Errors    shape_error if the two have other grids
/// Source    Karamcheti et al. 2024, arXiv:2402.07865, section 4.2
template <vision_encoder First, vision_encoder Second>
requires std::same_as<typename First::engine_type, typename Second::engine_type>
struct fused {
  using engine_type = typename First::engine_type;
  using E = engine_type;
  static constexpr int towers = First::towers + Second::towers;
  First first;
  Second second;
  std::string first_name, second_name;

  explicit fused(First a, Second b, std::string name_a = "dino_featurizer",
                 std::string name_b = "siglip_featurizer")
      : first(std::move(a)),
        second(std::move(b)),
        first_name(std::move(name_a)),
        second_name(std::move(name_b)) {
    if (first.grid() != second.grid())
      fail<shape_error>("fused: the grids of ", first_name, " and ", second_name, " have ",
                        first.grid(), " and ", second.grid(),
                        " patches a side; wanted are equal ones");
  }
  static void fields(auto& self, auto&& f) {
    f(self.first_name.c_str(), self.first), f(self.second_name.c_str(), self.second);
  }

  struct saved {
    typename First::saved first;
    typename Second::saved second;
  };

  index_t grid() const { return first.grid(); }
  index_t d_vision() const { return first.d_vision() + second.d_vision(); }

  out<E, 3> forward(context_of<E>& ctx, pictures<E> x, saved& s) const {
    check(x);
    const in<E, 3> a = first.forward(ctx, x.first(First::towers), s.first);
    const in<E, 3> b = second.forward(ctx, x.subspan(First::towers), s.second);
    return join(ctx, a, b);
  }

  out<E, 3> encode(context_of<E>& ctx, pictures<E> x) const {
    check(x);
    out<E, 3> y = ctx.template make<E, 3>({{x[0].size[0], grid() * grid(), d_vision()}});
    auto frame = ctx.scratch.make_frame();
    put(ctx, first.encode(ctx, x.first(First::towers)), y, 0);
    put(ctx, second.encode(ctx, x.subspan(First::towers)), y, first.d_vision());
    return y;
  }

  void backward(context_of<E>& ctx, in<E, 3> dy, const saved& s) {
    auto frame = ctx.scratch.make_frame();
    first.backward(ctx, part(ctx, dy, 0, first.d_vision()), s.first);
    second.backward(ctx, part(ctx, dy, first.d_vision(), second.d_vision()), s.second);
  }

 private:
  static void check(pictures<E> x) {
    if (x.size() != std::size_t(towers))
      fail<shape_error>("fused: pictures for ", x.size(), " towers; wanted is one for each of ",
                        towers);
    for (const in<E, 4>& p : x)
      if (p.size[0] != x[0].size[0])
        fail<shape_error>("fused: batches of ", x[0].size[0], " and ", p.size[0],
                          " pictures; wanted are the same pictures for each tower");
  }
  static void put(context_of<E>& ctx, in<E, 3> from, out<E, 3> y, index_t at) {
    using V = typename E::value;
    run(ctx, ops::copy<typename E::backend, V, V, 3>{.x = from, .y = y.slice(2, at, from.size[2])});
  }
  static out<E, 3> join(context_of<E>& ctx, in<E, 3> a, in<E, 3> b) {
    out<E, 3> y = ctx.template make<E, 3>({{a.size[0], a.size[1], a.size[2] + b.size[2]}});
    put(ctx, a, y, 0);
    put(ctx, b, y, a.size[2]);
    return y;
  }
  static in<E, 3> part(context_of<E>& ctx, in<E, 3> dy, index_t at, index_t n) {
    using V = typename E::value;
    out<E, 3> d = ctx.template make<E, 3>({{dy.size[0], dy.size[1], n}});
    run(ctx, ops::copy<typename E::backend, V, V, 3>{.x = dy.slice(2, at, n), .y = d});
    return d;
  }
};

}  // namespace mlmamba
