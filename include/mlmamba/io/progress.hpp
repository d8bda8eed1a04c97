// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// How a long job shows itself: a bar on a terminal, lines in a log.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>

#include "mlmamba/core/view.hpp"

namespace mlmamba {

/// "2 h 05 min", "3 min 20 s", "12 s".
inline std::string duration_text(double seconds) {
  char text[40];
  const long long s = seconds < 0 ? 0 : static_cast<long long>(seconds + 0.5);
  if (s >= 3600) {
    std::snprintf(text, sizeof text, "%lld h %02lld min", s / 3600, s / 60 % 60);
  } else if (s >= 60) {
    std::snprintf(text, sizeof text, "%lld min %02lld s", s / 60, s % 60);
  } else {
    std::snprintf(text, sizeof text, "%lld s", s);
  }
  return text;
}

/// What progress is counted in, and how it is printed: bytes may be counted and MB printed.
struct progress_unit {
  index_t size = 1;  ///< of what is counted, in one of what is printed
  std::string_view name = "";
};

/// Progress towards `total`: redrawn in place on a terminal (at most ten times a second), a line
/// each `every` elsewhere, as a log wants it.
class progress {
 public:
  progress(std::string what, index_t total, index_t start = 0, index_t every = 100,
           std::FILE* to = stderr, progress_unit unit = {})
      : what_(std::move(what)),
        total_(total),
        start_(start),
        every_(every < 1 ? 1 : every),
        logged_(start),
        to_(to),
        unit_(unit),
        live_(isatty(fileno(to)) != 0) {}
  ~progress() { end_line(); }
  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;

  void operator()(index_t done, std::string_view note) {
    const auto now = clock::now();
    const bool last = done >= total_;
    if (live_ ? !last && now - shown_ < std::chrono::milliseconds(100)
              : !last && done / every_ == logged_ / every_)
      return;
    shown_ = now;
    logged_ = done;
    const double seconds = std::chrono::duration<double>(now - begin_).count();
    const double rate = double(done - start_) / std::max(seconds, 1e-6);
    const std::string left = rate > 0 ? duration_text(double(total_ - done) / rate) + " left" : "";
    char head[96], speed[48];
    const double shown_rate = rate / double(unit_.size);
    const std::string name = (unit_.name.empty() ? "" : " ") + std::string(unit_.name);
    std::snprintf(head, sizeof head, "%s %lld/%lld%s", what_.c_str(),
                  static_cast<long long>(done / unit_.size),
                  static_cast<long long>(total_ / unit_.size), name.c_str());
    std::snprintf(speed, sizeof speed, shown_rate >= 10 ? "%.0f%s/s" : "%.2f%s/s", shown_rate,
                  name.c_str());
    const char* gap = note.empty() ? "" : "  ";
    if (live_) {
      const int filled = total_ > 0 ? int(24 * done / total_) : 24;
      std::string bar(std::size_t(filled), '#');
      bar.resize(24, '-');
      std::fprintf(to_, "\r\x1b[K[%s] %s%s%.*s  %s, %s", bar.c_str(), head, gap, int(note.size()),
                   note.data(), speed, left.c_str());
      open_ = true;
      if (last) end_line();
    } else {
      std::fprintf(to_, "%s%s%.*s  %s, %s\n", head, gap, int(note.size()), note.data(), speed,
                   left.c_str());
    }
    std::fflush(to_);
  }
  /// Leaves the bar where it is, so that something else can be printed.
  void end_line() {
    if (open_) std::fputc('\n', to_);
    open_ = false;
  }

 private:
  using clock = std::chrono::steady_clock;
  std::string what_;
  index_t total_, start_, every_, logged_;
  std::FILE* to_;
  progress_unit unit_;
  bool live_, open_ = false;
  clock::time_point begin_ = clock::now(), shown_{};
};

}  // namespace mlmamba
