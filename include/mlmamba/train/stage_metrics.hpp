// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The records of a stage's run in the original's form.
#pragma once

#include <cstdio>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "mlmamba/train/progress.hpp"
#include "mlmamba/train/stage.hpp"

namespace mlmamba::train {

/// Writes, each record once:
///
///   FOLDER/run-metrics.jsonl  one line: {"hparams", "run_id"}
///   FOLDER/RUN.jsonl          one line an update: {"Finetune/Learning Rate", "Finetune/Loss",
///                             "Finetune/Loss (Raw)", "Finetune/Step", "Finetune/Step Time"}
///
///   Loss        mean over the last 128 micro-batches
///   Loss (Raw)  mean over those of the update
///   Step Time   seconds, mean over the last 128 updates
///
/// Learning Rate is that of the next update, as a scheduler has it after its step. The windows of a
/// resumed run begin anew. Errors: io_error.
class stage_metrics {
 public:
  static constexpr std::size_t window = 128;

  /// Keeps the records of the first `resumed_at` updates, and appends to them.
  stage_metrics(const std::filesystem::path& folder, const std::string& run, stage s,
                const json& hyper_parameters, index_t resumed_at = 0)
      : prefix_(name_of(s)) {
    prefix_[0] = static_cast<char>(prefix_[0] - 'a' + 'A');
    write_file(folder / "run-metrics.jsonl",
               json{{"run_id", run}, {"hparams", hyper_parameters}}.dump() + "\n");
    records_ = metrics_file(folder / (run + ".jsonl"), resumed_at, key("Step"));
  }

  void add(const update_record& r, double next_learning_rate) {
    double raw = 0;
    for (const double loss : r.micro_losses) {
      losses_.add(loss);
      raw += loss / double(r.micro_losses.size());
    }
    times_.add(r.seconds);
    loss_ = losses_.mean();
    records_.add({{key("Step"), r.step},
                  {key("Loss"), loss_},
                  {key("Loss (Raw)"), raw},
                  {key("Learning Rate"), next_learning_rate},
                  {key("Step Time"), times_.mean()}});
    status_ = status_line(r.step, next_learning_rate, loss_);
  }

  /// "=>> [Global Step] 000123 =>> LR :: 0.000020 -- Loss :: 1.2345" of the last record.
  const std::string& status() const { return status_; }
  static std::string status_line(index_t step, double learning_rate, double loss) {
    char text[128];
    std::snprintf(text, sizeof text, "=>> [Global Step] %06lld =>> LR :: %.6f -- Loss :: %.4f",
                  static_cast<long long>(step), learning_rate, loss);
    return text;
  }

 private:
  /// The mean of the last `window` numbers, added up anew each time: no drift.
  class moving_mean {
   public:
    void add(double x) {
      if (last_.size() < window) {
        last_.push_back(x);
      } else {
        last_[next_] = x;
        next_ = (next_ + 1) % window;
      }
    }
    double mean() const {
      double sum = 0;
      for (const double x : last_) sum += x;
      return last_.empty() ? 0 : sum / double(last_.size());
    }

   private:
    std::vector<double> last_;
    std::size_t next_ = 0;
  };

  std::string key(const char* name) const { return prefix_ + "/" + name; }

  std::string prefix_, status_;
  metrics_file records_;
  moving_mean losses_, times_;
  double loss_ = 0;
};

}  // namespace mlmamba::train
