// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Batches made ahead of time by background threads, whose number never changes a batch.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "mlmamba/train/batch.hpp"
#include "mlmamba/train/sampler.hpp"

namespace mlmamba::train {

/// Threads that make batches, if nobody says how many: half of the processor, up to 8, for a model
/// on a GPU, which one thread would keep waiting; one beside a model on the same processor.
inline int usual_prefetch_threads(bool on_gpu) {
  const int all = int(std::thread::hardware_concurrency());
  return on_gpu ? std::clamp(all / 2, 1, 8) : 1;
}

/// Makes the batches of updates `first`, `first + 1`, ... in order, `ahead` of them at most before
/// they are taken. Batch u depends on the sampler and u alone.
///
/// Errors    what a batch throws is thrown by the `next()` that would have given it
class prefetcher {
 public:
  prefetcher(data_source source, sampler order, batch_builder build, index_t first, int threads,
             index_t ahead = 8)
      : source_(std::move(source)),
        order_(std::move(order)),
        build_(std::move(build)),
        claimed_(first),
        taken_(first),
        ahead_(ahead) {
    if (threads < 0 || ahead < 1)
      fail("prefetch: ", threads, " threads, ", ahead, " batches ahead; at least 0 and 1 wanted");
    for (int i = 0; i < threads; ++i) crew_.emplace_back([this] { work(); });
  }
  ~prefetcher() {
    {
      const std::lock_guard<std::mutex> hold(lock_);
      stop_ = true;
    }
    room_.notify_all();
    for (std::thread& t : crew_) t.join();
  }
  prefetcher(const prefetcher&) = delete;
  prefetcher& operator=(const prefetcher&) = delete;

  /// The next batch. Without threads it is made here.
  update_batch next() {
    if (crew_.empty()) return build_(source_, order_(taken_++));
    std::unique_lock<std::mutex> hold(lock_);
    done_.wait(hold, [&] { return ready_.contains(taken_); });
    auto node = ready_.extract(taken_++);
    hold.unlock();
    room_.notify_all();
    if (node.mapped().trouble) std::rethrow_exception(node.mapped().trouble);
    return std::move(node.mapped().batch);
  }

 private:
  struct result {
    update_batch batch;
    std::exception_ptr trouble;
  };

  void work() {
    for (;;) {
      index_t update = 0;
      result r;
      std::vector<std::uint64_t> numbers;
      {
        std::unique_lock<std::mutex> hold(lock_);
        room_.wait(hold, [&] { return stop_ || claimed_ < taken_ + ahead_; });
        if (stop_) return;
        update = claimed_++;
        try {
          numbers = order_(update);  // keeps a cache, so one at a time
        } catch (...) {
          r.trouble = std::current_exception();
        }
      }
      try {
        if (!r.trouble) r.batch = build_(source_, numbers);
      } catch (...) {
        r.trouble = std::current_exception();
      }
      {
        const std::lock_guard<std::mutex> hold(lock_);
        ready_.emplace(update, std::move(r));
      }
      done_.notify_all();
    }
  }

  data_source source_;
  sampler order_;
  batch_builder build_;
  std::mutex lock_;
  std::condition_variable room_, done_;
  std::map<index_t, result> ready_;
  index_t claimed_, taken_, ahead_;
  bool stop_ = false;
  std::vector<std::thread> crew_;
};

}  // namespace mlmamba::train
