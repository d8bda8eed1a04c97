// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Patches: where each pixel goes, what is ignored, every backend.
#include "ops/patchify_cases.hpp"

#include "mlmamba/verify/gradcheck.hpp"
#include "ops/engine_checks.hpp"

using namespace mlmamba;
using verify::patchify_options;

namespace {
std::vector<patchify_options> small_cases() {
  return {
      {},
      {.patch = 1},
      {.batch = 0},
      {.batch = 1, .channels = 1, .height = 5, .width = 8, .patch = 3},  // 2 rows, 2 columns left
      {.batch = 1, .channels = 2, .height = 2, .width = 6, .patch = 3},  // no patch fits
      {.batch = 1, .channels = 2, .height = 3, .width = 3, .patch = 3}};
}
std::vector<patchify_options> large_cases() {
  return {{.batch = 2, .channels = 3, .height = 64, .width = 50, .patch = 14},
          {.batch = 1, .channels = 3, .height = 48, .width = 48, .patch = 8}};
}
}  // namespace

TEST_SUITE("patchify_test") {
  TEST_CASE("backward is the derivative of forward") {
    for (const patchify_options& o : small_cases()) {
      const auto g = verify::gradcheck_case<verify::patchify_case>(3, o);
      CHECK_MESSAGE(g.worst < 1e-12, g.where, ": ", g.worst, " patch ", o.patch);
    }
  }

  TEST_CASE("the last H mod p rows and W mod p columns are ignored") {
    context<backend::reference> ctx;
    tensor<float, 4> x({1, 1, 3, 5});
    for (index_t i = 0; i < 15; ++i) x.data()[i] = float(i);
    tensor<float, 3> y({1, 2, 4});
    run(ctx, ops::patchify<reference_f32>{.x = x, .y = y, .patch = 2});
    const float want[] = {0, 1, 5, 6, 2, 3, 7, 8};
    for (index_t i = 0; i < 8; ++i) CHECK(y.data()[i] == want[i]);
  }

  TEST_CASE("contract") {
    context<backend::reference> ctx;
    tensor<float, 4> x({1, 1, 4, 4});
    tensor<float, 3> y({1, 4, 4});
    using E = reference_f32;
    CHECK_THROWS_WITH_AS(run(ctx, ops::patchify<E>{.x = x, .y = y}),
                         "patchify: patch is 0; wanted is at least 1", shape_error);
    CHECK_THROWS_WITH_AS(run(ctx, ops::patchify<E>{.x = x, .y = y, .patch = 4}),
                         "patchify: y is (1, 4, 4); wanted is (1, 1, 16)", shape_error);
  }

  TEST_CASE_TEMPLATE("equal to the reference in double", E, MLMAMBA_TEST_ENGINES) {
    verify::check_all<verify::patchify_case, E>(small_cases());
    verify::check_all<verify::patchify_case, E>(large_cases());
  }

  TEST_CASE_TEMPLATE("a picture is the same alone", E, MLMAMBA_TEST_ENGINES) {
    verify::check_alone<verify::patchify_case, E>(
        std::vector<patchify_options>{{.batch = 3, .height = 50, .width = 37, .patch = 7}},
        &patchify_options::batch);
  }

#if !defined(__CUDACC__)
  TEST_CASE_TEMPLATE("threads and instructions", E, cpu_f32, cpu_bf16) {
    verify::check_threads<verify::patchify_case, E>(large_cases());
    verify::check_levels<verify::patchify_case, E>(large_cases());
  }
#endif

  TEST_CASE_TEMPLATE("strided pixels: channels last", E, MLMAMBA_TEST_ENGINES) {
    context_of<E> ctx;
    context<backend::reference> plain;
    using T = typename E::value;
    tensor<T, 4> host({2, 7, 9, 3});
    for (index_t i = 0; i < host.count(); ++i) host.data()[i] = T(float(i % 251));
    tensor<double, 4> x({2, 7, 9, 3});
    for (index_t i = 0; i < host.count(); ++i) x.data()[i] = double(float(host.data()[i]));
    tensor_of<E, 4> mine(host.shape());
    from_host(mine.view(), std::as_const(host).view());
    const shape<3> n{{2, 6, 27}};
    tensor_of<E, 3> y(n);
    tensor<double, 3> want(n);
    // (B, H, W, C) seen as (B, C, H, W)
    run(ctx,
        ops::patchify<E>{.x = mine.view().transposed(2, 3).transposed(1, 2), .y = y, .patch = 3});
    run(plain, ops::patchify<exact>{
                   .x = x.view().transposed(2, 3).transposed(1, 2), .y = want, .patch = 3});
    const auto got = to_host(y.view());
    for (index_t i = 0; i < want.count(); ++i)
      CHECK(double(float(got.data()[i])) == want.data()[i]);
  }
}
