// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The pool runs every task once, on any number of threads, and passes exceptions on.
#include <doctest/doctest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

#include "mlmamba/core/error.hpp"
#include "mlmamba/core/threads.hpp"

using namespace mlmamba;

TEST_CASE("every task runs exactly once") {
  for (int threads : {1, 2, 3, 7}) {
    thread_pool pool(threads);
    CHECK(pool.size() == threads);
    for (index_t n : {0, 1, 2, 3, 17, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<std::size_t>(n));
      pool.parallel_for(n, [&](index_t i) { ++runs[std::size_t(i)]; });
      for (auto& r : runs) CHECK(r == 1);
    }
  }
}

TEST_CASE("more threads than can be had are an error") {
  CHECK_THROWS_WITH_AS(thread_pool(100000), "threads: 100000; wanted are at most 4096", error);
  CHECK_THROWS_WITH_AS(thread_pool(-1), "threads: -1; wanted are 1 or more, or 0 for all", error);
  thread_pool pool(2);
  CHECK(pool.size() == 2);
}

TEST_CASE("many short calls in a row do not lose tasks") {
  thread_pool pool(4);
  std::atomic<long> sum{0};
  for (int k = 0; k < 20000; ++k) pool.parallel_for(3, [&](index_t i) { sum += i + 1; });
  CHECK(sum == 20000 * 6);
}

TEST_CASE("a call from inside a task runs serially") {
  thread_pool pool(3);
  std::atomic<int> runs{0};
  pool.parallel_for(5, [&](index_t) { pool.parallel_for(7, [&](index_t) { ++runs; }); });
  CHECK(runs == 35);
}

TEST_CASE("an exception of a task reaches the caller and the pool stays usable") {
  thread_pool pool(2);
  for (int k = 0; k < 100; ++k) {
    CHECK_THROWS_WITH_AS(pool.parallel_for(10,
                                           [](index_t i) {
                                             if (i == 3) throw std::runtime_error("three");
                                           }),
                         "three", std::runtime_error);
  }
  std::atomic<int> runs{0};
  pool.parallel_for(10, [&](index_t) { ++runs; });
  CHECK(runs == 10);
}
