// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// How a run shows itself: a bar on a terminal, lines in a log, and JSON lines in a file.
#pragma once

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>

#include "mlmamba/core/engine.hpp"
#include "mlmamba/io/json.hpp"
#include "mlmamba/io/write_file.hpp"

namespace mlmamba::train {

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

/// Progress towards `total`: redrawn in place on a terminal (at most ten times a second), a line
/// each `every` elsewhere, as a log wants it.
class progress {
 public:
  progress(std::string what, index_t total, index_t start = 0, index_t every = 100,
           std::FILE* to = stderr)
      : what_(std::move(what)),
        total_(total),
        start_(start),
        every_(every < 1 ? 1 : every),
        to_(to),
        live_(isatty(fileno(to)) != 0) {}
  ~progress() { end_line(); }
  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;

  void operator()(index_t done, std::string_view note) {
    const auto now = clock::now();
    const bool last = done >= total_;
    if (live_ ? !last && now - shown_ < std::chrono::milliseconds(100)
              : !last && done % every_ != 0)
      return;
    shown_ = now;
    const double seconds = std::chrono::duration<double>(now - begin_).count();
    const double rate = double(done - start_) / std::max(seconds, 1e-6);
    const std::string left = rate > 0 ? duration_text(double(total_ - done) / rate) + " left" : "";
    char head[96], speed[48];
    std::snprintf(head, sizeof head, "%s %lld/%lld", what_.c_str(), static_cast<long long>(done),
                  static_cast<long long>(total_));
    std::snprintf(speed, sizeof speed, rate >= 10 ? "%.0f/s" : "%.2f/s", rate);
    if (live_) {
      const int filled = total_ > 0 ? int(24 * done / total_) : 24;
      std::string bar(std::size_t(filled), '#');
      bar.resize(24, '-');
      std::fprintf(to_, "\r\x1b[K[%s] %s  %.*s  %s, %s", bar.c_str(), head, int(note.size()),
                   note.data(), speed, left.c_str());
      open_ = true;
      if (last) end_line();
    } else {
      std::fprintf(to_, "%s  %.*s  %s, %s\n", head, int(note.size()), note.data(), speed,
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
  index_t total_, start_, every_;
  std::FILE* to_;
  bool live_, open_ = false;
  clock::time_point begin_ = clock::now(), shown_{};
};

/// A file of JSON objects, one a line, each written at once. A resumed run drops what lies after
/// its checkpoint, so that no update is there twice.
class metrics_file {
 public:
  metrics_file() = default;
  /// Keeps the whole lines whose `step_key` is at most `resumed_at`, and appends to them.
  metrics_file(std::filesystem::path path, index_t resumed_at, const std::string& step_key = "step")
      : path_(std::move(path)) {
    std::string kept;
    if (std::ifstream before(path_, std::ios::binary); resumed_at > 0 && before) {
      for (std::string line; std::getline(before, line) && !before.eof();) {
        const json j = json::parse(line, nullptr, false);
        if (j.is_object() && j.contains(step_key) && j.at(step_key).is_number_integer() &&
            j.at(step_key).get<index_t>() <= resumed_at)
          kept += line + '\n';
      }
    }
    write_file(path_, kept);
    out_.open(path_, std::ios::binary | std::ios::app);
  }
  void add(const json& object) {
    if (path_.empty()) return;
    out_ << object.dump() + '\n' << std::flush;
    if (!out_) fail<io_error>(path_.string(), ": can't write to it; is the disk full?");
  }

 private:
  std::filesystem::path path_;
  std::ofstream out_;
};

}  // namespace mlmamba::train
