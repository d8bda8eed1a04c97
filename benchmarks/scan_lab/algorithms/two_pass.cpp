// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// SSD in two passes over the time: parallel over segments where there are few heads.
//
// Pass 1 walks every segment from a zero state, as a row of a larger batch, for its last state;
// these are joined in order; pass 2 walks again from the right states. It does the work of
// `sequential` twice and has so many times the tasks.
#include <cmath>

#include "scan_lab/lab.hpp"

namespace {

using namespace mlmamba;

struct two_pass {
  static constexpr const char* name = "two-pass";
  static constexpr index_t segments = 8;

  template <class E>
  static void run(context_of<E>& ctx, const ops::ssd<E>& op) {
    using A = typename E::accum;
    const index_t L = op.x.size[1], H = op.heads(), length = (L + segments - 1) / segments;
    const index_t n = L / std::max<index_t>(1, length), rest = L - n * length;
    const shape<4> states{{n, H, op.x.size[3], op.state_size()}};
    for (index_t b = 0; b < op.x.size[0]; ++b) {
      auto frame = ctx.scratch.make_frame();
      const out_accum<E, 4> start = ctx.scratch.template make<A, 4>(states);
      const out_accum<E, 4> last = ctx.scratch.template make<A, 4>(states);
      // Row b as n rows of `length` tokens.
      const auto cut = [&](const auto& v) {
        return v.slice(0, b, 1).slice(1, 0, n * length).split(1, length).select(0, 0);
      };
      ops::ssd<E> part = op;
      part.algorithm = ops::scan_algorithm::sequential;
      part.x = cut(op.x), part.dt = cut(op.dt), part.B = cut(op.B), part.C = cut(op.C);
      part.y = cut(op.y), part.final_states = last;
      mlmamba::run(ctx, part);
      ctx.parallel_for(H, [&](index_t h) { join<E>(part, h, start, last); });
      part.initial_states = start;
      mlmamba::run(ctx, part);
      if (rest == 0) continue;
      const auto tail = [&](const auto& v) { return v.slice(0, b, 1).slice(1, n * length, rest); };
      part.x = tail(op.x), part.dt = tail(op.dt), part.B = tail(op.B), part.C = tail(op.C);
      part.y = tail(op.y), part.final_states = {};
      part.initial_states = last.slice(0, n - 1, 1);
      mlmamba::run(ctx, part);
    }
  }

 private:
  /// start[s + 1] = decay of segment s start[s] + last[s]; one head.
  template <class E>
  static void join(const ops::ssd<E>& part, index_t h, const out_accum<E, 4>& start,
                   const out_accum<E, 4>& last) {
    using A = typename E::accum;
    const index_t n = start.size[0], size = start.size[2] * start.size[3];
    std::fill_n(start.select(0, 0).select(0, h).data, size, A(0));
    for (index_t s = 0; s + 1 < n; ++s) {
      double sum = 0;
      for (index_t t = 0; t < part.dt.size[1]; ++t) {
        double v = double(float(part.dt(s, t, h))) + (part.dt_bias ? double(part.dt_bias(h)) : 0);
        if (part.dt_softplus && v <= 20) v = std::log1p(std::exp(v));
        sum += v;
      }
      const A keep = A(std::exp(sum * double(part.A(h))));
      const A *from = start.select(0, s).select(0, h).data,
              *by = last.select(0, s).select(0, h).data;
      A* const to = start.select(0, s + 1).select(0, h).data;
      for (index_t i = 0; i < size; ++i) to[i] = keep * from[i] + by[i];
    }
  }
};
const lab::add<two_pass> it;

}  // namespace
