// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// How whole steps run on a GPU: scratch that repeats, recorded steps, a block in one op, rows of a
// batch, and errors under way.
#undef MLMAMBA_POISON  // the fill of freed scratch, in test builds, cannot be captured into a graph
#include <array>

#include "backend/cuda_numbers.hpp"
#include "engines.hpp"
#include "mlmamba/models/mamba_lm.hpp"
#include "mlmamba/ops/mamba2_scan.hpp"
#include "mlmamba/verify/op_case.hpp"

using namespace mlmamba;
using namespace mlmamba::verify;

TEST_CASE("cuda: scratch addresses repeat") {
  context<backend::cuda> ctx;
  const void* first[3] = {};
  for (int turn = 0; turn < 4; ++turn) {
    auto frame = ctx.scratch.make_frame();
    const void* now[3] = {ctx.make<cuda_f32, 1>({{1000}}).data,
                          ctx.make<cuda_bf16, 2>({{700, 3000}}).data,
                          ctx.make_accum<cuda_bf16, 1>({{1}}).data};
    for (int i = 0; i < 3; ++i) {
      if (turn >= 2) CHECK(now[i] == first[i]);
      first[i] = now[i];
    }
  }
}

TEST_CASE("cuda: replay runs, records, plays, and begins anew where the scratch has moved") {
  using E = cuda_f32;
  context<backend::cuda> ctx;
  tensor_of<E, 1> sum({1000});
  const auto x = numbers<float, 1>({{1000}}, 1);
  context<backend::cuda>::recording recording;
  int called = 0, replayed = 0;
  const auto step = [&](auto& r) {
    auto frame = ctx.scratch.make_frame();
    const bool now = ctx.replay(r, [&] {
      ++called;
      auto inner = ctx.scratch.make_frame();
      const auto twice = ctx.make<E, 1>(x.shape());
      run(ctx, ops::add<E>{.a = rows(in<E, 2>(x.view().split(0, 10))),
                           .b = rows(in<E, 2>(x.view().split(0, 10))),
                           .y = twice.split(0, 10)});
      run(ctx, ops::add<E>{.a = in<E, 2>(sum.view().split(0, 10)),
                           .b = in<E, 2>(twice.split(0, 10)),
                           .y = sum.view().split(0, 10)});
    });
    if (!now) ++replayed;
  };
  { auto grow = ctx.scratch.make_frame(); }
  for (int i = 0; i < 5; ++i) step(recording);
  CHECK(called + replayed == 5);
  CHECK(replayed >= 2);
  auto copy = recording;  // is empty
  const int before = called;
  step(copy);
  CHECK(called == before + 1);
  {
    auto moved = ctx.scratch.make_frame();
    ctx.make<E, 1>({{3}});
    const int here = called;
    step(recording);
    CHECK(called == here + 1);
  }
  for (int i = 0; i < 3; ++i) step(recording);
  const auto got = to_host(std::as_const(sum).view());
  const auto one = to_host(x.view());
  for (index_t i = 0; i < 1000; ++i) {
    float want = 0;  // 10 steps in all
    for (int k = 0; k < 10; ++k) want += one(i) + one(i);
    CHECK(got(i) == want);
  }
}

/// Steps of a model whose blocks are one op, against those of one that runs their parts.
template <class E>
void check_block_step(const mamba_config& c, index_t batch) {
  context<backend::cuda> together, apart(cuda_options{.independent_rows = true});
  mamba_lm<E> m(c);
  nn::initialise(m, {3, 0, 0});
  auto one = m.make_state(batch), two = m.make_state(batch);
  std::vector<std::int32_t> ids;
  for (index_t b = 0; b < batch; ++b) ids.push_back(std::int32_t((3 + 7 * b) % c.vocab_size));
  tensor<std::int32_t, 1, memory::device> there({batch});
  from_host(there.view(), view<const std::int32_t, 1>(ids.data(), there.shape()));
  const auto step = [&](context<backend::cuda>& ctx, auto& state) {
    auto frame = ctx.scratch.make_frame();
    return to_host(m.step(ctx, in_index<E, 1>(std::as_const(there).view()), state));
  };
  double error = 0, norm = 0;
  const auto compare = [&](const auto& a, const auto& b) {
    for (index_t i = 0; i < a.count(); ++i) {
      const double x = double(float(a.data()[i])), y = double(float(b.data()[i]));
      error += (x - y) * (x - y), norm += y * y;
    }
  };
  for (int t = 0; t < 6; ++t) compare(step(together, one), step(apart, two));
  CHECK(norm > 0);
  using V = typename E::value;
  const double bound = std::is_same_v<V, bf16> ? 2e-2 : std::is_same_v<V, f16> ? 2.5e-3 : 2e-6;
  INFO("batch ", batch, " width ", c.mixer.d_model, " groups ", c.mixer.ngroups);
  CHECK(std::sqrt(error / norm) < bound);
  error = norm = 0;
  for (std::size_t i = 0; i < one.layers.size(); ++i) {
    compare(to_host(one.layers[i].ssm.view()), to_host(two.layers[i].ssm.view()));
    compare(to_host(one.layers[i].conv.view()), to_host(two.layers[i].conv.view()));
  }
  CHECK(std::sqrt(error / norm) < bound);
  CHECK(one.position == 6);
}

TEST_CASE_TEMPLATE("cuda: a block's step in one op, as its parts do it", E, MLMAMBA_TEST_ENGINES,
                   states_in_bf16<bf16>) {
  mamba_config c;
  c.mixer.d_model = 64, c.mixer.headdim = 32, c.mixer.d_state = 48;
  c.n_layer = 2, c.vocab_size = 50;
  for (index_t groups : {1, 2})
    for (index_t batch : {1, 2, 3, 4, 5, 12, 16, 17}) {
      c.mixer.ngroups = groups;
      check_block_step<E>(c, batch);
    }
}

TEST_CASE("cuda: a small block's step in one launch, as its parts do it") {
  for (auto [width, batch] : {std::array<index_t, 2>{768, 1},
                              {768, 2},
                              {768, 3},
                              {768, 8},
                              {992, 5},
                              {1024, 1},
                              {1056, 1},  // too wide, and too many rows
                              {768, 9}}) {
    mamba_config c;
    c.mixer.d_model = width;
    c.n_layer = 1, c.vocab_size = 50;
    check_block_step<cuda_bf16>(c, batch);
  }
}

TEST_CASE("cuda: a block's step of published sizes, as its parts do it") {
  for (auto [width, groups, batch] : {std::array<index_t, 3>{768, 1, 12},
                                      {1024, 4, 16},
                                      {2560, 1, 1},
                                      {2560, 1, 7},
                                      {2560, 8, 16},
                                      {2688, 1, 16}}) {  // too wide for tiles
    mamba_config c;
    c.mixer.d_model = width, c.mixer.ngroups = groups;
    c.n_layer = 1, c.vocab_size = 50;
    check_block_step<cuda_bf16>(c, batch);
  }
}

TEST_CASE_TEMPLATE("cuda: convolution and scan in one op, with the bits of its parts", E, cuda_bf16,
                   states_in_bf16<bf16>) {
  context<backend::cuda> ctx;
  int done = 0;
  for (index_t batch : {1, 3})
    for (index_t length : {15, 16, 100, 1000, 5000})
      for (const auto& [heads, p, n, groups] :
           {std::array<index_t, 4>{2, 64, 128, 1}, {6, 24, 72, 2}, {3, 128, 96, 3}}) {
        const index_t d = heads * p, channels = d + 2 * groups * n;
        const auto projected = numbers<bf16, 3>({{batch, length, channels + 24}}, 1);
        const auto weight = numbers<float, 2>({{channels, 4}}, 2);
        const auto bias = numbers<float, 1>({{channels}}, 3),
                   A_log = numbers<float, 1>({{heads}}, 4),
                   dt_bias = numbers<float, 1>({{heads}}, 5);
        const auto D = numbers<float, 2>({{heads, p}}, 6);
        auto window = numbers<bf16, 3>({{batch, 3, channels}}, 7), window2 = window;
        auto state = numbers<typename E::state, 4>({{batch, heads, p, n}}, 8), state2 = state;
        tensor_of<E, 3> y({batch, length, d}), y2(y.shape()), convolved({batch, length, channels});
        tensor<float, 1, memory::device> A({heads});
        const in<E, 3> all = projected.view();
        const ops::mamba2_scan<E> op{.xBC = all.slice(2, 0, channels),
                                     .dt = all.slice(2, channels + 8, heads),
                                     .window = window.view().transposed(1, 2),
                                     .conv_weight = weight,
                                     .conv_bias = bias,
                                     .state = state,
                                     .A_log = A_log,
                                     .dt_bias = dt_bias,
                                     .D = D,
                                     .y = y,
                                     .groups = groups,
                                     .dt_min = 0.01f,
                                     .dt_max = 2};
        if (!prefers(ctx, op)) continue;
        ++done;
        run(ctx, op);
        run(ctx, ops::negative_exp<E>{.x = A_log, .y = A});
        run(ctx, ops::causal_conv1d<E>{.x = op.xBC,
                                       .weight = weight,
                                       .bias = bias,
                                       .initial_states = window2.view().transposed(1, 2),
                                       .y = convolved,
                                       .final_states = window2.view().transposed(1, 2)});
        const in<E, 3> c = std::as_const(convolved).view();
        ops::ssd<E> scan;
        scan.x = c.slice(2, 0, d).split(2, p), scan.dt = op.dt, scan.A = A;
        scan.B = c.slice(2, d, groups * n).split(2, n);
        scan.C = c.slice(2, d + groups * n, groups * n).split(2, n);
        scan.D = D, scan.dt_bias = dt_bias, scan.initial_states = state2;
        scan.dt_softplus = true, scan.dt_min = op.dt_min, scan.dt_max = op.dt_max;
        scan.y = y2.view().split(2, p), scan.final_states = state2;
        run(ctx, scan);
        INFO("batch ", batch, " length ", length, " heads ", heads, " P ", p, " N ", n);
        const auto differ = [](const auto& a, const auto& b) {
          const auto one = to_host(a.view()), two = to_host(b.view());
          index_t count = 0;
          for (index_t i = 0; i < one.count(); ++i)
            count += !(double(float(one.data()[i])) == double(float(two.data()[i])));
          return count;
        };
        CHECK(differ(y, y2) == 0);
        CHECK(differ(state, state2) == 0);
        CHECK(differ(window, window2) == 0);
        if (p > 64) continue;

        // With a gate, from the state that is now in both.
        const auto z = numbers<bf16, 3>({{batch, length, d}}, 9);
        const auto gate_weight = numbers<float, 1>({{d}}, 10);
        tensor<float, 3, memory::device> squares({batch, length, heads});
        ops::mamba2_scan<E> gated = op;
        gated.z = z, gated.gate_weight = gate_weight, gated.squares = squares;
        REQUIRE(prefers(ctx, gated));
        tensor_of<E, 3> ungated(y.shape());
        ops::mamba2_scan<E> plain = op;
        plain.window = window2.view().transposed(1, 2), plain.state = state2, plain.y = ungated;
        run(ctx, plain);
        run(ctx, gated);
        CHECK(differ(state, state2) == 0);
        const auto v = to_host(ungated.view()), got = to_host(y.view()), zs = to_host(z.view());
        const auto w = to_host(gate_weight.view());
        const auto sums = to_host(squares.view());
        double error = 0, norm = 0, worst = 0;
        for (index_t i = 0; i < v.count() / p; ++i) {
          double sum = 0;
          for (index_t k = i * p; k < (i + 1) * p; ++k) {
            const double gate = float(zs.data()[k]),
                         u = float(v.data()[k]) * gate / (1 + std::exp(-gate));
            const double want = u * w.data()[k % d], e = float(got.data()[k]) - want;
            sum += u * u, error += e * e, norm += want * want;
          }
          worst = std::max(worst, std::abs(sums.data()[i] - sum) / sum);
        }
        CHECK(std::sqrt(error / norm) < 0x1p-8);  // two roundings to 8 bits
        CHECK(worst < 0x1p-6);
      }
  // Where there are no warpgroups nothing is preferred; fewer than 16 tokens never.
  CHECK((done == 0 || done == 2 * 4 * 3));
  if (backend::kernels::has_warpgroups()) CHECK(done > 0);
}

TEST_CASE("cuda: a prompt is read as in training, norms left to the next block or not") {
  using E = cuda_bf16;
  context<backend::cuda> ctx;
  for (index_t groups : {1, 2})
    for (index_t intermediate : {0, 96}) {
      mamba_config c;
      c.mixer.d_model = 64, c.mixer.headdim = 32, c.mixer.d_state = 96, c.mixer.ngroups = groups;
      c.n_layer = 3, c.vocab_size = 50, c.d_intermediate = intermediate;
      mamba_lm<E> m(c);
      nn::initialise(m, {3, 0, 0});
      nn::for_each_parameter(m, [](const std::string& path, auto& w) {
        random_stream r = random_stream{9, 9, 9}.fork(path);
        if (path.ends_with("norm.weight")) nn::fill(w, [&] { return 1 + 0.3 * r.normal(); });
      });
      tensor<std::int32_t, 2> ids({2, 300});
      random_stream r{8, 0, 0};
      for (index_t i = 0; i < ids.count(); ++i) ids.data()[i] = std::int32_t(r.below(50));
      tensor<std::int32_t, 2, memory::device> there(ids.shape());
      from_host(there.view(), std::as_const(ids).view());
      auto frame = ctx.scratch.make_frame();
      auto state = m.make_state(2);
      const in<E, 3> embedded = m.embed(ctx, std::as_const(there).view());
      typename mamba_lm<E>::saved saved;
      const auto want =
          to_host(nn::to<bf16>(ctx, in<E, 3>(m.forward(ctx, embedded, saved)).slice(1, 299, 1)));
      const auto got = to_host(m.prefill(ctx, embedded, state));
      double error = 0, norm = 0;
      for (index_t i = 0; i < got.count(); ++i) {
        const double w = float(want.data()[i]), e = got.data()[i] - w;
        error += e * e, norm += w * w;
      }
      INFO("groups ", groups, " MLP ", intermediate);
      CHECK(std::sqrt(error / norm) < 2e-2);
      CHECK(norm > 0);
    }
}

TEST_CASE_TEMPLATE("cuda: a row of a batch is what it is alone, if rows are independent", E,
                   MLMAMBA_TEST_ENGINES) {
  context<backend::cuda> ctx(cuda_options{.independent_rows = true});
  for (index_t d_state : {32, 128}) {
    mamba_config c;
    c.mixer.d_model = 64, c.mixer.headdim = 64, c.mixer.d_state = d_state;
    c.n_layer = 2, c.vocab_size = 50;
    mamba_lm<E> m(c);
    nn::initialise(m, {3, 0, 0});
    constexpr index_t batch = 9, length = 2000;
    tensor<std::int32_t, 2> ids({batch, length});
    random_stream r{8, 0, 0};
    for (index_t i = 0; i < ids.count(); ++i) ids.data()[i] = std::int32_t(r.below(50));
    tensor<std::int32_t, 2, memory::device> there(ids.shape());
    from_host(there.view(), std::as_const(ids).view());
    const in_index<E, 2> all = std::as_const(there).view();
    const auto logits = [&](index_t first, index_t rows) {
      auto frame = ctx.scratch.make_frame();
      const auto part = [&](index_t from, index_t n) {
        const auto to = ctx.scratch.template make<std::int32_t, 2>(shape<2>{{rows, n}});
        nn::assign(ctx, to, all.slice(0, first, rows).slice(1, from, n));
        return in_index<E, 2>(to);
      };
      auto state = m.make_state(rows);
      m.prefill(ctx, m.embed(ctx, part(0, length - 1)), state);
      return to_host(m.step(ctx, part(length - 1, 1).flat(), state));
    };
    const auto together = logits(0, batch);
    index_t different = 0;
    for (index_t b : {0, 4, 8}) {
      const auto alone = logits(b, 1);
      for (index_t v = 0; v < alone.size(1); ++v) different += alone(0, v) != together(b, v);
    }
    INFO("d_state ", d_state);
    CHECK(different == 0);
  }
}

TEST_CASE("cuda: an error in the work leaves nothing recorded, and the context usable") {
  using E = cuda_f32;
  context<backend::cuda> ctx;
  tensor_of<E, 1> y({100});
  context<backend::cuda>::recording recording;
  for (int i = 0; i < 3; ++i)
    CHECK_THROWS_AS(ctx.replay(recording,
                               [&] {
                                 run(ctx, ops::fill<E>{.y = y});
                                 fail<shape_error>("wrong");
                               }),
                    shape_error);
  const auto fill = [&] { run(ctx, ops::fill<E>{.y = y, .value = 2}); };
  for (int i = 0; i < 3; ++i) ctx.replay(recording, fill);
  CHECK(to_host(std::as_const(y).view())(99) == 2);
}
