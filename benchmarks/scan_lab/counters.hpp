// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Hardware counters of this process, where the kernel lets a program have them.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#if defined(__linux__)
#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#endif

namespace lab {

/// Events of the calling thread and of threads that it starts later: make one before the context
/// whose threads shall count. What is not allowed or not there reads as -1; `why` says why.
class counters {
 public:
  static constexpr int n = 4;
  static constexpr std::array<const char*, n> names = {"cycles", "instructions", "cache_misses",
                                                       "branch_misses"};
  using values = std::array<double, n>;

  std::string why;

#if defined(__linux__)
  counters() {
    constexpr std::uint64_t what[n] = {PERF_COUNT_HW_CPU_CYCLES, PERF_COUNT_HW_INSTRUCTIONS,
                                       PERF_COUNT_HW_CACHE_MISSES, PERF_COUNT_HW_BRANCH_MISSES};
    for (int i = 0; i < n; ++i) {
      perf_event_attr a{};
      a.size = sizeof a, a.type = PERF_TYPE_HARDWARE, a.config = what[i];
      a.inherit = 1, a.exclude_kernel = 1, a.exclude_hv = 1;
      file_[std::size_t(i)] = int(syscall(SYS_perf_event_open, &a, 0, -1, -1, 0));
      if (file_[std::size_t(i)] < 0 && why.empty())
        why = std::string("perf_event_open: ") + std::strerror(errno);
    }
  }
  ~counters() {
    for (const int f : file_)
      if (f >= 0) ::close(f);
  }
  values read() const {
    values v;
    for (std::size_t i = 0; i < n; ++i) {
      std::uint64_t count = 0;
      const bool there = file_[i] >= 0 && ::read(file_[i], &count, sizeof count) == sizeof count;
      v[i] = there ? double(count) : -1;
    }
    return v;
  }
#else
  counters() : why("no perf_event_open on this system") {}
  values read() const { return {-1, -1, -1, -1}; }
#endif
  counters(const counters&) = delete;
  counters& operator=(const counters&) = delete;

 private:
  std::array<int, n> file_{};
};

}  // namespace lab
