// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What only the CUDA backend promises of products: rows that don't depend on how many there are,
// operands of any types and strides.
#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include "backend/cuda_numbers.hpp"
#include "engines.hpp"
#include "ops/gemm_cases.hpp"

using namespace mlmamba;
using namespace mlmamba::verify;

TEST_CASE_TEMPLATE("cuda: products of few rows: each row as alone, and near those of many", E,
                   MLMAMBA_TEST_ENGINES) {
  context<backend::cuda> ctx;
  using V = typename E::value;
  for (auto [n, k] : {std::pair<index_t, index_t>{64, 64}, {33, 8}, {10576, 2560}, {77, 5128}}) {
    const auto x = numbers<V, 2>({{4, k}}, 1), w = numbers<V, 2>({{n, k}}, 2);
    const auto bias = numbers<float, 1>({{n}}, 3);
    std::vector<tensor<V, 2>> y;
    for (index_t m = 1; m <= 4; ++m) {
      tensor_of<E, 2> part({m, n});
      run(ctx, ops::gemm<E>{.x = in<E, 2>(x.view()).slice(0, 0, m),
                            .w = w,
                            .bias = bias,
                            .y = part,
                            .activation = activation::silu});
      y.push_back(to_host(std::as_const(part).view()));
    }
    const auto hx = to_host(x.view()), hw = to_host(w.view());
    const auto hb = to_host(bias.view());
    index_t different = 0, wrong = 0;
    for (index_t i = 0; i < 4; ++i)
      for (index_t j = 0; j < n; ++j) {
        for (index_t m = i; m < 4; ++m)
          different += float(y[std::size_t(m)](i, j)) != float(y[3](i, j)) ? 1 : 0;
        if (j % 7) continue;
        double v = hb(j), size = 1;
        for (index_t q = 0; q < k; ++q) {
          v += double(float(hx(i, q))) * double(float(hw(j, q)));
          size += std::abs(double(float(hx(i, q))) * double(float(hw(j, q))));
        }
        const double want = v / (1 + std::exp(-v));
        const double bound = size * 1.2e-7 * (double(k) / 32 + 8) * 1.1 +
                             std::abs(want) * (std::is_same_v<V, bf16>  ? 4e-3
                                               : std::is_same_v<V, f16> ? 5e-4
                                                                        : 1e-6);
        wrong += !(std::abs(double(float(y[3](i, j))) - want) <= bound) ? 1 : 0;
      }
    INFO("n ", n, " k ", k);
    CHECK(different == 0);
    CHECK(wrong == 0);
  }
}

TEST_CASE_TEMPLATE("cuda: a row of a product does not depend on how many there are", E,
                   MLMAMBA_TEST_ENGINES) {
  context<backend::cuda> ctx(cuda_options{.independent_rows = true});
  using V = typename E::value;
  constexpr index_t most = 600;
  for (auto [n, k] : {std::pair<index_t, index_t>{64, 64},
                      {96, 200},
                      {33, 17},
                      {512, 1024},
                      {2560, 768},
                      {7, 1000},
                      {1000, 7}}) {
    const auto x = numbers<V, 2>({{most, k}}, 1), w = numbers<V, 2>({{n, k}}, 2);
    tensor_of<E, 2> all({most, n});
    run(ctx, ops::gemm<E>{.x = x, .w = w, .y = all});
    const auto want = to_host(std::as_const(all).view());
    for (auto [from, m] : {std::pair<index_t, index_t>{0, 1}, {1, 1}, {5, 2}, {77, 16}, {3, 129}}) {
      tensor_of<E, 2> part({m, n});
      run(ctx, ops::gemm<E>{.x = in<E, 2>(x.view()).slice(0, from, m), .w = w, .y = part});
      const auto got = to_host(std::as_const(part).view());
      index_t different = 0;
      for (index_t i = 0; i < m; ++i)
        for (index_t j = 0; j < n; ++j)
          different += float(got(i, j)) != float(want(from + i, j)) ? 1 : 0;
      INFO("n ", n, " k ", k, " rows ", m, " from ", from);
      CHECK(different == 0);
    }
  }
}

TEST_CASE("cuda: products of mixed types, transposed, broadcast and strided operands") {
  context<backend::cuda> ctx;
  const auto check = [&]<class Y, class W, class X>(Y, W, X, index_t m, index_t n, index_t k,
                                                    int layout) {
    using E = on<backend::cuda, std::conditional_t<is_16_bit<W>, W, bf16>>;
    auto x = numbers<X, 2>({{m, k}}, 1), xt = numbers<X, 2>({{k, m}}, 1);
    auto w = numbers<W, 2>({{n, k}}, 2), wt = numbers<W, 2>({{k, n}}, 2);
    const auto bias = numbers<float, 1>({{n}}, 3);
    const auto y0 = numbers<Y, 2>({{m, n}}, 4);
    auto y = y0;
    ops::gemm<E, Y, W, X> op;
    op.x = layout & 1 ? xt.view().transposed() : x.view();
    op.w = layout & 2 ? wt.view().transposed() : w.view();
    if (layout & 4) op.x.stride[op.x.stride[1] == 1 ? 0 : 1] = 0;  // the same row (column) again
    op.y = y;
    if (layout & 8) op.bias = bias;
    op.accumulate = (layout & 16) != 0;
    run(ctx, op);
    const auto hx = to_host(layout & 1 ? xt.view() : x.view());
    const auto hw = to_host(layout & 2 ? wt.view() : w.view());
    const auto hb = to_host(bias.view());
    const auto h0 = to_host(y0.view()), got = to_host(std::as_const(y).view());
    double error = 0, norm = 0;
    for (index_t i = 0; i < m; ++i)
      for (index_t j = 0; j < n; ++j) {
        double sum = op.accumulate ? double(h0(i, j)) : 0;
        for (index_t l = 0; l < k; ++l)
          sum += double(hx.data()[i * op.x.stride[0] + l * op.x.stride[1]]) *
                 double(hw.data()[j * op.w.stride[0] + l * op.w.stride[1]]);
        if (op.bias) sum += double(hb(j));
        error += (double(got(i, j)) - sum) * (double(got(i, j)) - sum);
        norm += sum * sum;
      }
    const double limit = tolerance<on<backend::cuda, Y>>(double(k));
    INFO("m ", m, " n ", n, " k ", k, " layout ", layout);
    CHECK(std::sqrt(error) <= limit * std::sqrt(norm));
  };
  for (int layout = 0; layout < 32; ++layout)
    for (auto [m, n, k] : {std::array<index_t, 3>{64, 32, 96},
                           {3, 5, 7},
                           {1, 33, 16},
                           {17, 1, 8},
                           {9, 8, 1},
                           {4, 6, 0}}) {
      check(float(), float(), float(), m, n, k, layout);
      check(bf16(0.f), bf16(0.f), bf16(0.f), m, n, k, layout);
      check(float(), bf16(0.f), bf16(0.f), m, n, k, layout);
      check(bf16(0.f), bf16(0.f), float(), m, n, k, layout);
      check(bf16(0.f), float(), bf16(0.f), m, n, k, layout);
      check(f16(0.f), f16(0.f), f16(0.f), m, n, k, layout);
      check(float(), f16(0.f), f16(0.f), m, n, k, layout);
    }
}
