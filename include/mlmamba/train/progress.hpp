// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// How a run shows itself: a bar on a terminal, lines in a log, and JSON lines in a file.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

#include "mlmamba/io/json.hpp"
#include "mlmamba/io/progress.hpp"
#include "mlmamba/io/write_file.hpp"

namespace mlmamba::train {

using mlmamba::duration_text, mlmamba::progress;

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
