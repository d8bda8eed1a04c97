// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What a user's file does: a scan and a product on the CPU, compared with plain loops.
#pragma once
#include <mlmamba/mlmamba.hpp>

#include <cmath>

static bool scan_works() {
  using namespace mlmamba;
  using E = cpu_f32;
  context<backend::cpu> ctx{{.threads = 2}};
  const index_t L = 70, D = 24, N = 16;
  tensor<float, 3> x({1, L, D}), dt({1, L, D}), y({1, L, D});
  tensor<float, 2> A({D, N});
  tensor<float, 4> B({1, L, 1, N}), C({1, L, 1, N});
  random_stream r{1};
  for (auto* t : {&x, &dt})
    for (index_t i = 0; i < t->count(); ++i) t->data()[i] = float(r.uniform(0.1, 1));
  for (auto* t : {&B, &C})
    for (index_t i = 0; i < t->count(); ++i) t->data()[i] = float(r.normal());
  for (index_t i = 0; i < A.count(); ++i) A.data()[i] = -float(r.uniform(0.5, 2));
  ops::selective_scan<E> op;
  op.x = x, op.dt = dt, op.A = A, op.B = B, op.C = C, op.y = y;
  run(ctx, op);
  for (index_t d = 0; d < D; ++d) {
    double h[16] = {};
    for (index_t t = 0; t < L; ++t) {
      double want = 0;
      for (index_t n = 0; n < N; ++n) {
        h[n] = std::exp(double(dt(0, t, d)) * A(d, n)) * h[n] +
               double(dt(0, t, d)) * B(0, t, 0, n) * x(0, t, d);
        want += C(0, t, 0, n) * h[n];
      }
      const double e = std::abs(want - y(0, t, d)) / (1 + std::abs(want));
      if (!(e < 1e-5)) return false;  // NaN too
    }
  }
  return true;
}

static bool product_works() {
  using namespace mlmamba;
  context<backend::cpu> ctx{{.threads = 2}};
  tensor<float, 2> x({5, 7}), w({9, 7}), y({5, 9});
  random_stream r{2};
  for (auto* t : {&x, &w})
    for (index_t i = 0; i < t->count(); ++i) t->data()[i] = float(r.normal());
  run(ctx, ops::gemm<cpu_f32>{.x = x, .w = w, .y = y});
  for (index_t m = 0; m < 5; ++m) {
    for (index_t n = 0; n < 9; ++n) {
      double want = 0;
      for (index_t k = 0; k < 7; ++k) want += double(x(m, k)) * w(n, k);
      if (!(std::abs(want - y(m, n)) < 1e-5)) return false;
    }
  }
  return true;
}
