// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Training of a model with all its parts is the same on any number of threads.
#include <doctest/doctest.h>

#include "mlmamba/backend/cpu.hpp"
#include "train/two_towers.hpp"

using namespace mlmamba;

namespace {
using E = cpu_f32;
/// All parameters after some updates, and the losses.
std::string trained(int threads, std::vector<double>& losses) {
  context_of<E> ctx(cpu_options{.threads = threads});
  auto m = test::small_two_towers<E>();
  train::trainer<test::two_towers<E>, train::next_token_gradients> t(ctx, m, {},
                                                                     test::quick_training());
  for (int u = 0; u < 12; ++u)
    losses.push_back(t.update(test::two_towers_batch(std::uint64_t(u % 2))).loss);
  return test::bits_of(m);
}
}  // namespace

TEST_SUITE("threads_test") {
  TEST_CASE("updates on 1, 2 and 3 threads give the same bits") {
    std::vector<double> one, two, three;
    const std::string a = trained(1, one);
    CHECK(a.size() > 100000);
    CHECK((a == trained(2, two)));
    CHECK((a == trained(3, three)));
    CHECK(one == two);
    CHECK(one == three);
    MESSAGE("loss ", one.front(), " -> ", one.back());
    CHECK(one.back() < 0.9 * one.front());
  }
}
