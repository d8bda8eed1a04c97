// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A small pool. Tasks are the same whatever the number of threads; no sum crosses tasks.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

#include "mlmamba/core/engine.hpp"
#include "mlmamba/core/error.hpp"

namespace mlmamba {

/// Runs `f(0) ... f(n - 1)`, each once, on the caller and `threads - 1` workers. Which thread runs
/// a task is not fixed; what a task computes must not depend on it. A call from inside a task runs
/// serially. The first exception of a task is rethrown by the caller after all tasks have ended.
class thread_pool {
 public:
  static constexpr int most = 4096;

  /// 0: as many as the machine runs at once. Throws mlmamba::error if the system has not so many.
  explicit thread_pool(int threads = 0) {
    if (threads <= 0) threads = int(std::thread::hardware_concurrency());
    if (threads < 1) threads = 1;
    if (threads > most) fail<error>("threads: ", threads, "; wanted are at most ", most);
    try {
      workers_.reserve(std::size_t(threads - 1));
      for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
    } catch (const std::exception& e) {
      const std::size_t there = workers_.size() + 1;
      join();
      fail<error>("threads: ", threads, " are wanted, and only ", there, " can be had: ", e.what());
    }
  }
  ~thread_pool() { join(); }
  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;

  int size() const { return int(workers_.size()) + 1; }
  /// Calls so far that had work for the workers.
  index_t forks() const { return forks_; }

  template <class F>
  void parallel_for(index_t n, F&& f) {
    if (n <= 0) return;
    if (n == 1 || workers_.empty() || inside()) {
      for (index_t i = 0; i < n; ++i) f(i);
      return;
    }
    using G = std::remove_reference_t<F>;
    call_ = [](void* g, index_t i) { (*static_cast<G*>(g))(i); };
    callee_ = const_cast<void*>(static_cast<const void*>(std::addressof(f)));
    count_ = n;
    error_ = nullptr;
    ++forks_;
    next_.store(0, std::memory_order_relaxed);
    gate_.store(0, std::memory_order_release);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    inside() = true;
    drain();
    inside() = false;
    // A worker that hasn't come yet finds nothing to do, and is not waited for: where others want
    // the processors as well it may not run for a long time.
    gate_.fetch_or(closed, std::memory_order_acq_rel);
    for (int spin = 0; gate_.load(std::memory_order_acquire) != closed; ++spin) {
      if (spin < spins) {
        pause();
      } else {
        std::this_thread::yield();
      }
    }
    if (error_) std::rethrow_exception(error_);
  }

 private:
  // About 0.2 ms (a pause is 140 cycles or fewer): longer than the gap between two ops of a decode
  // step, and than a sleeping thread takes to wake.
  static constexpr int spins = 4000;

  void join() {
    stop_.store(true);
    generation_.fetch_add(1);
    generation_.notify_all();
    for (std::thread& t : workers_) t.join();
  }
  static bool& inside() {
    thread_local bool in = false;
    return in;
  }
  static void pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
  }
  /// Counts the calling worker in, unless the call is over.
  bool enter() {
    std::uint32_t g = gate_.load(std::memory_order_relaxed);
    while (!(g & closed))
      if (gate_.compare_exchange_weak(g, g + 1, std::memory_order_acquire,
                                      std::memory_order_relaxed))
        return true;
    return false;
  }
  void drain() {
    for (;;) {
      const index_t i = next_.fetch_add(1, std::memory_order_relaxed);
      if (i >= count_) return;
      try {
        call_(callee_, i);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(error_mutex_);
        if (!error_) error_ = std::current_exception();
      }
    }
  }
  void work() {
    inside() = true;
    std::uint32_t seen = 0;
    for (;;) {
      for (int spin = 0; generation_.load(std::memory_order_acquire) == seen && spin < spins;
           ++spin)
        pause();
      generation_.wait(seen, std::memory_order_acquire);
      seen = generation_.load(std::memory_order_acquire);
      if (stop_.load()) return;
      if (!enter()) continue;
      drain();
      gate_.fetch_sub(1, std::memory_order_release);
    }
  }

  std::vector<std::thread> workers_;
  std::atomic<std::uint32_t> generation_{0};
  std::atomic<index_t> next_{0};
  // Of the call that runs: how many workers are in it, and whether more may enter.
  static constexpr std::uint32_t closed = std::uint32_t(1) << 31;
  std::atomic<std::uint32_t> gate_{closed};
  std::atomic<bool> stop_{false};
  void (*call_)(void*, index_t) = nullptr;
  void* callee_ = nullptr;
  index_t count_ = 0, forks_ = 0;
  std::exception_ptr error_;
  std::mutex error_mutex_;
};

}  // namespace mlmamba
