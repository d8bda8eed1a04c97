// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What does one SSD cost the compiler?
#include "mlmamba/mlmamba.hpp"

int main() {
  using namespace mlmamba;
  context<backend::cpu> ctx;
  tensor<float, 4> x({1, 9, 2, 4}), y({1, 9, 2, 4}), B({1, 9, 1, 2}), C({1, 9, 1, 2});
  tensor<float, 3> dt({1, 9, 2});
  tensor<float, 1> A({2});
  ops::ssd<cpu_f32> op;
  op.x = x, op.dt = dt, op.A = A, op.B = B, op.C = C, op.y = y;
  run(ctx, op);
  return y(0, 8, 1, 3) == 0 ? 0 : 1;
}
