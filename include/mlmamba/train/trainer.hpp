// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The training loop: gradients of micro-batches, an update, a record, a checkpoint.
#pragma once

#include <chrono>
#include <cmath>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "mlmamba/train/batch.hpp"
#include "mlmamba/train/progress.hpp"
#include "mlmamba/train/saved_run.hpp"
#include "mlmamba/train/schedule.hpp"

namespace mlmamba::train {

/// What one update did.
struct update_record {
  index_t step = 0;  ///< counts from 1
  double loss = 0, learning_rate = 0, gradient_norm = 0, seconds = 0;
  index_t text_tokens = 0, labelled = 0;
  std::vector<double> micro_losses;  ///< the mean of each micro-batch
};

struct trainer_options {
  schedule rate{};  ///< its `steps` is the length of the run, in updates
  optimizer_options optimizer{};
  train::normalisation normalisation = normalisation::tokens;

  std::filesystem::path folder{};  ///< metrics.jsonl and checkpoints/; empty: nothing is written
  int keep = 2;                    ///< checkpoints kept
  index_t checkpoint_every = 0;    ///< updates; 0: only at the end
  double checkpoint_minutes = 0;   ///< and whenever this time has passed since the last; 0: never
  index_t epoch_updates = 0;       ///< of an epoch; then checkpoints are named by epoch and loss
  index_t evaluate_every = 0;      ///< updates; 0: never
  index_t log_every = 50;          ///< updates between lines of a log
  double minutes = 0;              ///< of this call; then stop with a checkpoint. 0: no limit
  bool show = true;                ///< progress on stderr
  json config = json::object();    ///< what makes the run this run; a resumed one must equal it
  /// Called after each update of a run, with the learning rate of the next.
  std::function<void(const update_record&, double)> record{};
};

/// Trains `model` by `gradients(ctx, model, micro_batch, scale)`, which adds the gradient of
/// scale times the sum of the token losses, and returns that sum.
///
/// Resume    the same config, and the data of update u a function of u: the run then continues bit
///           for bit, wherever it was stopped or killed
/// Errors    what gradients and update throw; mlmamba::error for a batch without a label, or a loss
///           that is not finite. The last checkpoint stays
template <class Model, class Gradients>
class trainer {
 public:
  using E = typename Model::engine_type;

  trainer(context_of<E>& ctx, Model& model, Gradients gradients, trainer_options o)
      : ctx_(ctx),
        model_(model),
        gradients_(std::move(gradients)),
        options_((o.rate.check(), std::move(o))),
        optimizer_(model, options_.optimizer),
        checkpoints_(options_.folder / "checkpoints", options_.keep) {
    state_.epoch_updates = options_.epoch_updates;
  }

  /// Loads the newest checkpoint, if there is one. Returns whether.
  bool resume() {
    if (options_.folder.empty()) fail("trainer: resume without a folder; one is wanted");
    const auto found = checkpoints_.load(model_, optimizer_, options_.config);
    if (found) state_ = *found;
    state_.epoch_updates = options_.epoch_updates;
    return found.has_value();
  }

  const run_state& state() const { return state_; }
  bool finished() const { return state_.updates >= options_.rate.steps; }
  const train::optimizer<E>& optimizer() const { return optimizer_; }

  /// One update.
  ///
  ///   tokens          loss = sum over all tokens / their number
  ///   mean_of_means   loss = mean over micro-batches of sum / number; parts that were cut together
  ///                   are one
  update_record update(const update_batch& batch) {
    const auto begin = std::chrono::steady_clock::now();
    const bool pooled = options_.normalisation == normalisation::tokens;
    const index_t labelled = batch.labelled();
    if (labelled == 0)
      fail("trainer: no label in the batch of update ", state_.updates + 1,
           "; answers to learn are wanted (is the text cut before the first answer?)");
    update_record r;
    optimizer_.zero_grads(model_);
    std::vector<std::size_t> whole;  // of each part: the number of its micro-batch
    std::vector<index_t> own;        // of each micro-batch: its labels
    for (const micro_batch& part : batch.parts) {
      const index_t before = whole.empty() ? -1 : batch.parts[whole.size() - 1].cut;
      if (part.cut < 0 || part.cut != before) own.push_back(0);
      whole.push_back(own.size() - 1);
      own.back() += part.labelled();
    }
    r.micro_losses.resize(own.size());
    for (std::size_t i = 0; i < whole.size(); ++i) {
      if (batch.parts[i].labelled() == 0) continue;
      const double n = double(own[whole[i]]);
      const double scale = pooled ? 1 / double(labelled) : 1 / (n * double(own.size()));
      auto frame = ctx_.scratch.make_frame();
      const double sum = gradients_(ctx_, model_, batch.parts[i], scale);
      r.loss += scale * sum;
      r.micro_losses[whole[i]] += sum / n;
    }
    if (!std::isfinite(r.loss))
      fail("trainer: the loss of update ", state_.updates + 1, " is ", r.loss,
           "; a finite one is wanted (a lower learning rate or a longer warm-up may help)");
    r.learning_rate = options_.rate(state_.updates);
    r.gradient_norm = optimizer_.update(ctx_, model_, r.learning_rate);
    r.step = ++state_.updates;
    r.text_tokens = batch.text_tokens;
    r.labelled = labelled;
    state_.text_tokens += r.text_tokens;
    state_.labelled += labelled;
    state_.loss = r.loss;
    r.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return r;
  }

  void save() const {
    if (!options_.folder.empty()) checkpoints_.save(model_, optimizer_, state_, options_.config);
  }

  /// Updates until the run is finished, its time is used up, or `stop()` says so; then a
  /// checkpoint. `next()` gives the batches from update `state().updates` on; `evaluate(step)`
  /// returns an object of results for the metrics.
  void run(const std::function<update_batch()>& next,
           const std::function<json(index_t)>& evaluate = {},
           const std::function<bool()>& stop = {}) {
    using clock = std::chrono::steady_clock;
    const auto begin = clock::now();
    const auto since = [](clock::time_point t) {
      return std::chrono::duration<double>(clock::now() - t).count();
    };
    std::error_code unused;
    if (!options_.folder.empty()) std::filesystem::create_directories(options_.folder, unused);
    metrics_file metrics;
    if (!options_.folder.empty())
      metrics = metrics_file(options_.folder / "metrics.jsonl", state_.updates);
    progress bar("update", options_.rate.steps, state_.updates, options_.log_every);
    index_t saved_at = state_.updates;
    auto saved_when = begin;
    double slowest = 0, mean_loss = 0;
    while (!finished()) {
      const auto step_begin = clock::now();
      const update_batch batch = next();
      const double waited = since(step_begin);
      const update_record r = update(batch);
      const double seconds = since(step_begin);
      state_.seconds += seconds;
      slowest = std::max(slowest * 0.9, seconds);
      mean_loss = mean_loss == 0 ? r.loss : 0.98 * mean_loss + 0.02 * r.loss;
      metrics.add({{"step", r.step},
                   {"loss", r.loss},
                   {"learning_rate", r.learning_rate},
                   {"gradient_norm", r.gradient_norm},
                   {"labelled", r.labelled},
                   {"text_tokens", r.text_tokens},
                   {"tokens_per_second", double(r.text_tokens) / seconds},
                   {"waited", waited},
                   {"seconds", state_.seconds}});
      if (options_.record) options_.record(r, options_.rate(r.step));
      if (options_.show) {
        char note[128];
        std::snprintf(note, sizeof note,
                      "loss %.4f (mean %.4f)  rate %.2e  norm %.2f  %.0f tokens/s", r.loss,
                      mean_loss, r.learning_rate, r.gradient_norm, double(r.text_tokens) / seconds);
        bar(r.step, note);
      }
      const bool ends = finished() || (stop && stop()) ||
                        (options_.minutes > 0 && since(begin) + slowest > 60 * options_.minutes);
      const double due = 60 * options_.checkpoint_minutes;
      if (ends || (options_.checkpoint_every > 0 && r.step % options_.checkpoint_every == 0) ||
          (due > 0 && since(saved_when) >= due)) {
        save();
        saved_at = r.step;
        saved_when = clock::now();
      }
      if (evaluate && options_.evaluate_every > 0 && r.step % options_.evaluate_every == 0) {
        bar.end_line();
        json result = evaluate(r.step);
        result["step"] = r.step;
        metrics.add(result);
      }
      if (ends) break;
    }
    if (saved_at != state_.updates) save();
  }

 private:
  context_of<E>& ctx_;
  Model& model_;
  Gradients gradients_;
  trainer_options options_;
  train::optimizer<E> optimizer_;
  saved_run checkpoints_;
  run_state state_;
};

}  // namespace mlmamba::train
