// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What do the compiler's flags change? Everything header-only, timed with one thread; flags.sh
// builds this without flags and with -march=native, and lets the two take turns.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "mlmamba/mlmamba.hpp"

namespace {

using namespace mlmamba;

context<backend::cpu> ctx(cpu_options{.threads = 1});

template <class T, int R>
tensor<T, R> random_numbers(shape<R> n, float low = -1, float high = 1) {
  tensor<T, R> t(n);
  random_stream r{7, std::uint64_t(t.count()), 0};
  for (index_t i = 0; i < t.count(); ++i) t.data()[i] = T(float(r.uniform(low, high)));
  return t;
}

/// Prints the median time of 15 runs, each of as many calls as take about 10 ms.
template <class F>
void time(const std::string& name, F&& f) {
  using clock = std::chrono::steady_clock;
  const auto seconds = [&](int calls) {
    const auto start = clock::now();
    for (int i = 0; i < calls; ++i) f();
    return std::chrono::duration<double>(clock::now() - start).count();
  };
  seconds(1);
  const int calls = std::max(1, int(0.01 / seconds(1)));
  std::vector<double> all;
  for (int i = 0; i < 15; ++i) all.push_back(seconds(calls) / calls);
  std::nth_element(all.begin(), all.begin() + 7, all.end());
  std::printf("%-28s %.4f\n", name.c_str(), all[7] * 1e3);
}

template <engine E>
void time_ops(const std::string& type) {
  using T = typename E::value;
  {
    const auto w = random_numbers<T, 2>({1280, 2560});
    for (index_t rows : {1, 256}) {
      const auto x = random_numbers<T, 2>({rows, 2560});
      tensor<T, 2> y({rows, 1280});
      time("gemm M " + std::to_string(rows) + " " + type,
           [&] { run(ctx, ops::gemm<E>{.x = x, .w = w, .y = y}); });
    }
  }
  {
    const auto x = random_numbers<T, 2>({512, 2560});
    const auto weight = random_numbers<float, 1>({2560});
    tensor<T, 2> y({512, 2560});
    tensor<float, 1> rstd({512});
    ops::rms_norm<E> op;
    op.x = x, op.weight = weight, op.y = y, op.rstd = rstd;
    time("rms_norm " + type, [&] { run(ctx, op); });
  }
  {
    const auto x = random_numbers<T, 3>({1, 512, 1792});
    const auto weight = random_numbers<float, 2>({1792, 4});
    const auto bias = random_numbers<float, 1>({1792});
    tensor<T, 3> y({1, 512, 1792});
    ops::causal_conv1d<E> op;
    op.x = x, op.weight = weight, op.bias = bias, op.y = y;
    op.activation = activation::silu;
    time("causal_conv1d " + type, [&] { run(ctx, op); });
  }
  {
    const auto x = random_numbers<T, 3>({1, 512, 1536});
    const auto dt = random_numbers<T, 3>({1, 512, 1536}, 0.001f, 0.1f);
    const auto A = random_numbers<float, 2>({1536, 16}, -16, -1);
    const auto B = random_numbers<T, 4>({1, 512, 1, 16}), C = random_numbers<T, 4>({1, 512, 1, 16});
    tensor<T, 3> y({1, 512, 1536});
    time("selective_scan " + type, [&] {
      run(ctx, ops::selective_scan<E>{.x = x, .dt = dt, .A = A, .B = B, .C = C, .y = y});
    });
  }
  {
    const auto x = random_numbers<T, 4>({1, 512, 24, 64});
    const auto dt = random_numbers<T, 3>({1, 512, 24}, 0.001f, 0.1f);
    const auto A = random_numbers<float, 1>({24}, -16, -1);
    const auto B = random_numbers<T, 4>({1, 512, 1, 128}),
               C = random_numbers<T, 4>({1, 512, 1, 128});
    tensor<T, 4> y({1, 512, 24, 64});
    ops::ssd<E> op;
    op.x = x, op.dt = dt, op.A = A, op.B = B, op.C = C, op.y = y;
    time("ssd " + type, [&] { run(ctx, op); });
  }
}

void time_decoding() {
  mamba_config c;
  c.mixer.d_model = 768, c.n_layer = 6, c.vocab_size = 8192;
  mamba_lm<cpu_f32> m(c);
  nn::initialise(m, random_stream{1, 0, 0});
  auto state = m.make_state(1);
  tensor<std::int32_t, 1> id({1});
  id(0) = 5;
  time("decode, Mamba-2, 6 layers", [&] {
    const auto frame = ctx.scratch.make_frame();
    m.step(ctx, in_index<cpu_f32, 1>(std::as_const(id).view()), state);
  });
}

}  // namespace

int main() {
  time_ops<cpu_f32>("f32");
  time_ops<on<backend::cpu, bf16>>("bf16");
  time_decoding();
}
