// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What does one selective scan cost the compiler?
#include "mlmamba/mlmamba.hpp"

int main() {
  using namespace mlmamba;
  context<backend::cpu> ctx;
  tensor<float, 3> x({1, 9, 4}), dt({1, 9, 4}), y({1, 9, 4});
  tensor<float, 4> B({1, 9, 1, 2}), C({1, 9, 1, 2});
  tensor<float, 2> A({4, 2});
  run(ctx, ops::selective_scan<cpu_f32>{.x = x, .dt = dt, .A = A, .B = B, .C = C, .y = y});
  return y(0, 8, 3) == 0 ? 0 : 1;
}
