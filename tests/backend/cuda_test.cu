// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What only the CUDA backend promises of ops: they can be captured, gradients repeat bit for bit,
// sizes that need several launches. (Products: cuda_products_test.cu; whole steps:
// cuda_steps_test.cu.)
#undef MLMAMBA_POISON  // the fill of freed scratch, in test builds, cannot be captured into a graph
#include "backend/cuda_numbers.hpp"
#include "engines.hpp"
#include "ops/attention_cases.hpp"
#include "ops/causal_conv1d_cases.hpp"
#include "ops/cross_entropy_cases.hpp"
#include "ops/embedding_cases.hpp"
#include "ops/gemm_cases.hpp"
#include "ops/grid_cases.hpp"
#include "ops/norm_cases.hpp"
#include "ops/selective_scan_cases.hpp"
#include "ops/ssd_cases.hpp"

using namespace mlmamba;
using namespace mlmamba::verify;

namespace {

/// A stream under capture turns waits and allocations into errors. Runs the case, captures a second
/// run, forgets the results, and replays.
template <class C>
bool graph_replays(context<backend::cuda>& ctx, C&& c) {
  using Case = std::remove_cvref_t<C>;
  const auto work = [&] {
    c.forward(ctx);
    if constexpr (has_backward<Case>) c.backward(ctx);
  };
  const auto forget = [&] {
    Case::outputs(c, [](const char*, auto& t, auto&) { verify::detail::fill_nan(t); });
    Case::inputs(c, [](const char*, auto&, auto& dt, auto...) {
      if (dt) allocator<memory::device>::fill(dt.data(), 0, dt.bytes());
    });
    ctx.synchronize();
  };
  auto same = c;
  randomise(c, same, 11);
  forget();
  work();  // scratch grows, kernels load, algorithms are chosen
  const auto once = results(c);
  forget();

  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  REQUIRE(cudaStreamBeginCapture(ctx.stream, cudaStreamCaptureModeGlobal) == cudaSuccess);
  work();
  REQUIRE(cudaStreamEndCapture(ctx.stream, &graph) == cudaSuccess);
  REQUIRE(cudaGraphInstantiate(&executable, graph, 0) == cudaSuccess);
  const bool nothing_ran = results(c)[0].values != once[0].values;
  REQUIRE(cudaGraphLaunch(executable, ctx.stream) == cudaSuccess);
  ctx.synchronize();
  bool equal = true;
  const auto again = results(c);
  for (std::size_t k = 0; k < once.size(); ++k) equal = equal && again[k].values == once[k].values;
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
  return equal && nothing_ran;
}

}  // namespace

TEST_CASE_TEMPLATE("cuda: ops neither wait nor allocate, so graphs replay them", E,
                   MLMAMBA_TEST_ENGINES) {
  context<backend::cuda> ctx;
  CHECK(graph_replays(
      ctx, gemm_case<E>({.m = 33, .n = 48, .k = 64, .bias = true, .act = activation::gelu})));
  CHECK(graph_replays(ctx, gemm_case<E>({.m = 5, .n = 7, .k = 9})));
  CHECK(
      graph_replays(ctx, ssd_case<E>({.length = 300, .z = true, .initial = true, .final = true})));
  CHECK(graph_replays(ctx, scan_case<E>({.length = 300, .D = true, .final = true})));
  CHECK(graph_replays(ctx, conv_case<E>({.length = 20, .final = true})));
  CHECK(graph_replays(ctx, attention_case<E>({.queries = 40, .keys = 40})));
  CHECK(graph_replays(ctx, layer_norm_case<E>({.rows = 200, .width = 40})));
  CHECK(graph_replays(ctx, embedding_case<E>({.tokens = 300, .vocabulary = 7, .width = 5})));
  CHECK(graph_replays(ctx, cross_entropy_case<E>({.rows = 9, .vocabulary = 500})));
}

namespace {
/// Equal to the reference, and the same bits in two runs.
template <template <class> class Case, class E, class Options>
void repeats(const Options& o) {
  context<backend::cuda> one, two;
  const difference d = compare<Case, E>(one, 5, o);
  INFO(d.where, " relative ", d.relative, " tolerance ", d.tolerance);
  CHECK(d.ok);
  CHECK((same_bits<Case, E>(one, two, 6, o)));
}
}  // namespace

TEST_CASE_TEMPLATE("cuda: gradients of many rows, twice with the same bits", E,
                   MLMAMBA_TEST_ENGINES) {
  repeats<ssd_case, E>(ssd_options{.batch = 3,
                                   .length = 150,
                                   .heads = 12,
                                   .channels = 32,
                                   .states = 64,
                                   .groups = 1,
                                   .D = skip::per_head,
                                   .dt_bias = true,
                                   .final = true});
  repeats<scan_case, E>(selective_scan_options{
      .batch = 3, .length = 150, .channels = 96, .states = 16, .D = true, .z = true});
  repeats<scan_case, E>(selective_scan_options{.batch = 2,
                                               .length = 900,
                                               .channels = 136,
                                               .states = 16,
                                               .groups = 1,
                                               .D = true,
                                               .z = true,
                                               .dt_bias = true,
                                               .initial = true,
                                               .final = true,
                                               .aligned = true});
  repeats<attention_case, E>(
      attention_options{.batch = 3, .queries = 50, .keys = 50, .heads = 3, .width = 48});
  repeats<layer_norm_case, E>(norm_options{.rows = 5000, .width = 192});
  repeats<gated_norm_case, E>(norm_options{.rows = 3000, .width = 384});
  repeats<conv_case, E>(conv_options{.batch = 20, .length = 150, .channels = 100});
  repeats<gemm_case, E>(gemm_options{.m = 5000, .n = 96, .k = 64, .bias = true});
  repeats<embedding_case, E>(embedding_options{.tokens = 5000, .vocabulary = 50, .width = 96});
  repeats<depthwise_conv2d_case, E>(
      conv2d_options{.batch = 9, .rows = 14, .columns = 14, .width = 40});
  repeats<cross_entropy_case, E>(cross_entropy_options{.rows = 300, .vocabulary = 4099});
}

TEST_CASE_TEMPLATE("cuda: ssd of Mamba-2's shape, over several segments", E, MLMAMBA_TEST_ENGINES) {
  // Heads are multiples of 8, or slices would not be aligned.
  const ssd_options o{.batch = 1,
                      .length = 900,
                      .heads = 8,
                      .channels = 64,
                      .states = 128,
                      .groups = 1,
                      .D = skip::per_head,
                      .dt_bias = true,
                      .initial = true,
                      .final = true};
  ssd_options odd_groups = o, small = o, gated = o, wide = o;
  odd_groups.heads = 24, odd_groups.groups = 8, odd_groups.length = 200;
  odd_groups.seq = sequences::packed, odd_groups.period = 47;
  small.states = 96, small.channels = 48, small.length = 1300, small.D = skip::per_channel;
  small.seq = sequences::packed, small.period = 130;
  gated.z = true, gated.length = 2600, gated.batch = 2;
  wide.channels = 80, wide.length = 1250;
  for (const ssd_options& each : {o, odd_groups, small, gated, wide}) repeats<ssd_case, E>(each);
}

TEST_CASE_TEMPLATE("cuda: 16-bit numbers are rounded and widened as on the host", V, bf16, f16) {
  context<backend::cuda> ctx;
  constexpr index_t all = 65536;
  tensor<V, 1> narrow({all});
  for (index_t i = 0; i < all; ++i) narrow(i).bits = std::uint16_t(i);
  tensor<V, 1, memory::device> there({all});
  from_host(there.view(), std::as_const(narrow).view());
  tensor<float, 1, memory::device> wide({all});
  run(ctx, ops::copy<backend::cuda, float, V, 1>{.x = there, .y = wide});
  const auto widened = to_host(std::as_const(wide).view());
  index_t wrong = 0;
  const auto same = [](float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); };
  for (index_t i = 0; i < all; ++i) wrong += !same(widened(i), narrow(i));
  CHECK(wrong == 0);
  // Each number, the middle to the next one (a tie), and what lies around that.
  tensor<float, 1> x({4 * all});
  for (index_t i = 0; i < all; ++i) {
    const float a = narrow(i), b = narrow((i + 1) % all), middle = (a + b) / 2;
    x(4 * i) = a, x(4 * i + 1) = middle;
    x(4 * i + 2) = std::nextafter(middle, a), x(4 * i + 3) = std::nextafter(middle, b);
  }
  tensor<float, 1, memory::device> from({4 * all});
  from_host(from.view(), std::as_const(x).view());
  tensor<V, 1, memory::device> to({4 * all});
  run(ctx, ops::copy<backend::cuda, V, float, 1>{.x = from, .y = to});
  const auto rounded = to_host(std::as_const(to).view());
  for (index_t i = 0; i < 4 * all; ++i) wrong += !same(rounded(i), V(x(i)));
  CHECK(wrong == 0);
}

TEST_CASE_TEMPLATE("cuda: states and heads of any size", E, MLMAMBA_TEST_ENGINES) {
  context<backend::cuda> ctx;
  const auto fine = [](const difference& d) {
    INFO(d.where, " relative ", d.relative, " tolerance ", d.tolerance);
    CHECK(d.ok);
  };
  for (index_t states : {1, 32, 33, 65, 129, 256, 257, 600})
    fine(compare<ssd_case, E>(ctx, 3,
                              ssd_options{.batch = 1,
                                          .length = 150,
                                          .heads = 2,
                                          .channels = 70,
                                          .states = states,
                                          .groups = 1,
                                          .D = skip::per_head,
                                          .z = true,
                                          .initial = true,
                                          .final = true}));
  for (index_t states : {1, 16, 17, 64, 65, 200})
    fine(compare<scan_case, E>(ctx, 3,
                               selective_scan_options{.batch = 2,
                                                      .length = 150,
                                                      .channels = 18,
                                                      .states = states,
                                                      .D = true,
                                                      .z = true,
                                                      .initial = true,
                                                      .final = true}));
  for (index_t width : {1, 32, 33, 64, 72, 128, 200, 256})
    fine(compare<attention_case, E>(
        ctx, 3, attention_options{.queries = 37, .keys = 70, .width = width, .causal = true}));
  attention_case<E> wide({.width = 257});
  CHECK_THROWS_AS(wide.forward(ctx), shape_error);
}

TEST_CASE_TEMPLATE("cuda: a convolution of much data has the bits of its channels alone", E,
                   MLMAMBA_TEST_ENGINES) {
  using V = typename E::value;
  context<backend::cuda> ctx;
  const index_t batch = 6, channels = 1304;  // some tiles, and a part of one
  const auto weight = numbers<float, 2>({{channels, 4}}, 2);
  const auto bias = numbers<float, 1>({{channels}}, 3);
  for (index_t length : {1990, 2049}) {
    const auto x = numbers<V, 3>({{batch, length, channels + 40}}, 1);
    for (bool states : {false, true}) {
      tensor_of<E, 3> whole({batch, length, channels + 8}), parts(whole.shape());
      auto last = numbers<V, 3>({{batch, 3, channels}}, 4), last_of_parts = last;
      const auto convolve = [&](index_t from, index_t n, auto& y, auto& state) {
        ops::causal_conv1d<E> op{.x = in<E, 3>(x.view()).slice(2, 24 + from, n),
                                 .weight = in_accum<E, 2>(weight.view()).slice(0, from, n),
                                 .bias = in_accum<E, 1>(bias.view()).slice(0, from, n),
                                 .y = y.view().slice(2, 8 + from, n)};
        if (states) op.activation = activation::none;
        if (states)
          op.initial_states = op.final_states = state.view().slice(2, from, n).transposed(1, 2);
        run(ctx, op);
      };
      convolve(0, channels, whole, last);
      for (index_t from = 0; from < channels; from += 8) convolve(from, 8, parts, last_of_parts);
      const auto differ = [](const auto& a, const auto& b) {
        const auto one = to_host(a), two = to_host(b);
        index_t count = 0;
        for (index_t i = 0; i < one.count(); ++i)
          count += !(float(one.data()[i]) == float(two.data()[i]));
        return count;
      };
      INFO("length ", length, " states ", states);
      CHECK(differ(whole.view(), parts.view()) == 0);
      CHECK(differ(last.view(), last_of_parts.view()) == 0);
    }
  }
}

TEST_CASE("cuda: an index outside the table gives NaN, a device that is not there an error") {
  context<backend::cuda> ctx;
  tensor<std::int32_t, 1> ids({3});
  ids(0) = 1, ids(1) = -1, ids(2) = 2;
  tensor<std::int32_t, 1, memory::device> there({3});
  from_host(there.view(), std::as_const(ids).view());
  const auto table = numbers<float, 2>({{2, 4}}, 1);
  tensor_of<cuda_f32, 2> y({3, 4});
  run(ctx, ops::embedding<cuda_f32>{.index = there, .table = table, .y = y});
  const auto got = to_host(std::as_const(y).view());
  CHECK(got(0, 3) == to_host(table.view())(1, 3));
  CHECK(std::isnan(got(1, 0)));
  CHECK(std::isnan(got(2, 0)));
  CHECK_THROWS_AS((context<backend::cuda>(cuda_options{.device = 99})), device_error);
  // Out of memory: how much, for what; and the process goes on.
  try {
    tensor<float, 2, memory::device> t({1 << 22, 1 << 20});
    CHECK(!t);
  } catch (const device_error& e) {
    const std::string what = e.what();
    CHECK(what.find("17592186044416 bytes on the device") != std::string::npos);
    CHECK(what.find("(for an array (4194304, 1048576))") != std::string::npos);
  }
  tensor<float, 1, memory::device> small({8});
  CHECK(to_host(std::as_const(small).view())(7) == 0.0f);
}
