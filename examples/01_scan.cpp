// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// One scan: an op is a struct of named views, a context is a place to run it.
//
//   g++ -std=c++20 -O2 -I include examples/01_scan.cpp -pthread && ./a.out
#include <mlmamba/mlmamba.hpp>

#include <cmath>
#include <cstdio>

using namespace mlmamba;

/// SSD, the scan of Mamba-2, on random numbers.
template <engine E>
struct scan_data {
  index_t tokens = 1000, heads = 4, head_size = 32, state_size = 64;
  tensor_of<E, 4> x{shape<4>{{1, tokens, heads, head_size}}}, y{x.shape()};
  tensor_of<E, 3> dt{shape<3>{{1, tokens, heads}}};
  tensor<typename E::accum, 1> A{shape<1>{{heads}}};
  tensor_of<E, 4> B{shape<4>{{1, tokens, 1, state_size}}}, C{B.shape()};

  scan_data() {
    random_stream r{42};
    auto fill = [&](auto& t, double low, double high) {
      for (index_t i = 0; i < t.count(); ++i) t.data()[i] = float(r.uniform(low, high));
    };
    fill(x, -1, 1), fill(dt, -4, 0), fill(A, -2, -1), fill(B, -1, 1), fill(C, -1, 1);
  }
  ops::ssd<E> op() {
    ops::ssd<E> op;
    op.x = x, op.dt = dt, op.A = A, op.B = B, op.C = C;
    op.dt_softplus = true;
    op.y = y;
    return op;
  }
};

int main() {
  context<backend::cpu> cpu;              // threads and SIMD, chosen when the program runs
  context<backend::reference> reference;  // plain loops: the definition of correct

  scan_data<cpu_f32> fast;
  scan_data<exact> slow;
  run(cpu, fast.op());
  run(reference, slow.op());

  double error = 0, norm = 0;
  for (index_t i = 0; i < slow.y.count(); ++i) {
    error += std::pow(fast.y.data()[i] - slow.y.data()[i], 2);
    norm += std::pow(slow.y.data()[i], 2);
  }
  std::printf("ssd of %ld tokens: %.0f Mflop, error against double %.1e\n", long(fast.tokens),
              fast.op().flops() / 1e6, std::sqrt(error / norm));

  // A contract that is broken is said in words.
  try {
    auto op = fast.op();
    op.A = {};
    run(cpu, op);
  } catch (const shape_error& e) {
    std::printf("%s\n", e.what());
  }
  return std::sqrt(error / norm) < 1e-5 ? 0 : 1;
}
