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
    if (threads < 0) fail<error>("threads: ", threads, "; wanted are 1 or more, or 0 for all");
    if (threads == 0) threads = int(std::thread::hardware_concurrency());
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
    using G = std::remove_reference_t<F>;
    run(
        n, [](void* g, index_t i) { (*static_cast<G*>(g))(i); },
        const_cast<void*>(static_cast<const void*>(std::addressof(f))));
  }

 private:
  // About 0.2 ms (a pause is 140 cycles or fewer): longer than the gap between two ops of a decode
  // step, and than a sleeping thread takes to wake.
  static constexpr int spins = 4000;

  /// Not a template: a program has many loops.
  void run(index_t n, void (*call)(void*, index_t), void* callee) {
    if (n <= 0) return;
    if (n == 1 || workers_.empty() || inside()) {
      for (index_t i = 0; i < n; ++i) call(callee, i);
      return;
    }
    call_ = call;
    callee_ = callee;
    count_ = n;
    error_ = nullptr;
    ++forks_;
    left_.store(n, std::memory_order_relaxed);
    open_.store(n, std::memory_order_release);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    inside() = true;
    const bool alone = drain() == n;
    inside() = false;
    // Workers that never come may wait for this thread's processor.
    missed_ = alone ? missed_ + 1 : 0;
    if (missed_ >= 64) {
      missed_ = 0;
      std::this_thread::yield();
    }
    // A worker that has no processor of its own has to get one to end its task.
    for (int spin = 0; left_.load(std::memory_order_acquire) != 0; ++spin) {
      if (spin < spins / 8) {
        pause();
      } else {
        std::this_thread::yield();
      }
    }
    if (error_) std::rethrow_exception(error_);
  }

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
  /// Runs tasks until none is open. A worker that comes late finds none, and nobody waits for it:
  /// the call ends with its last task. Returns how many this thread ran.
  index_t drain() {
    index_t done = 0;
    for (index_t open = open_.load(std::memory_order_relaxed); open > 0;) {
      if (!open_.compare_exchange_weak(open, open - 1, std::memory_order_acquire,
                                       std::memory_order_relaxed))
        continue;
      // This task is ours: the call can't end before it, and what the call is stays.
      try {
        call_(callee_, count_ - open);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(error_mutex_);
        if (!error_) error_ = std::current_exception();
      }
      ++done;
      open = open_.load(std::memory_order_relaxed);
    }
    if (done > 0) left_.fetch_sub(done, std::memory_order_release);
    return done;
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
      drain();
    }
  }

  std::vector<std::thread> workers_;
  std::atomic<std::uint32_t> generation_{0};
  std::atomic<index_t> open_{0};  // tasks that nobody has begun
  std::atomic<index_t> left_{0};  // tasks that have not ended
  std::atomic<bool> stop_{false};
  void (*call_)(void*, index_t) = nullptr;
  void* callee_ = nullptr;
  index_t count_ = 0, forks_ = 0, missed_ = 0;
  std::exception_ptr error_;
  std::mutex error_mutex_;
};

}  // namespace mlmamba
