// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Checkpoints of a training run: everything that the next update depends on, complete or absent.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "mlmamba/io/parameters.hpp"
#include "mlmamba/train/optimizer.hpp"

namespace mlmamba::train {

/// Moves parameters that lie in mapped files into memory of their own.
template <class Model>
void own_weights(Model& model) {
  nn::for_each_parameter(model, [](const std::string&, auto& p) {
    auto own = std::as_const(p.value);
    p.value = std::move(own);
  });
}

/// Loads the parameters of a checkpoint, or of a model that export_model wrote, into memory of
/// their own (training writes there, and a mapped file must stay as it is). Errors: io_error.
template <class Model>
void load_weights(Model& model, const std::filesystem::path& file) {
  const auto weights = safetensors_file::open(file);
  named_arrays named{weights.who(), {}};
  for (const safetensors_entry& e : weights.entries()) named.add(e.name, e);
  load_parameters(model, named);
  own_weights(model);
}

/// Where a run stands. Random numbers need no state of their own: every draw is a function of the
/// seed (in the run's config) and of a number such as the update's, and so is the order of data.
struct run_state {
  index_t updates = 0;      ///< done; also the position in the data
  index_t text_tokens = 0;  ///< seen, without padding
  index_t labelled = 0;     ///< learned from
  double seconds = 0;       ///< spent training, over all parts of the run
  /// For a checkpoint's name only: updates of an epoch (0: a name without it), the last loss.
  index_t epoch_updates = 0;
  double loss = std::numeric_limits<double>::infinity();
};

/// Checkpoints of one run:
///
///   FOLDER/step-00001200/model.safetensors      parameters, as they are stored
///                        optimizer.safetensors  "m.PATH", "v.PATH", "master.PATH"
///                        state.json             counts, and the config of the run
///   FOLDER/latest-checkpoint                    a link to the newest, where links can be made
///
/// Where epochs are counted the name is "step-000123-epoch-01-loss=1.2345", as the original has it:
/// the epoch of the last update, from 0, and its loss.
///
/// A checkpoint is written beside its place and renamed when it is whole and on the disk, so a run
/// that is killed at any time leaves complete ones only. Errors: io_error.
class saved_run {
 public:
  explicit saved_run(std::filesystem::path folder, int keep = 2)
      : folder_(std::move(folder)), keep_(keep) {
    if (keep < 1) fail("checkpoints: ", keep, " are kept; at least 1 is wanted");
  }

  /// The updates of the checkpoints that are there, ascending.
  std::vector<index_t> steps() const {
    std::vector<index_t> out;
    for (const auto& [step, name] : found()) out.push_back(step);
    return out;
  }
  /// Where the newest checkpoint is; "" if there is none.
  std::filesystem::path newest() const {
    const auto all = found();
    return all.empty() ? std::filesystem::path() : folder_ / all.back().second;
  }
  /// Where the checkpoint of a step is.
  std::filesystem::path path_of(index_t step) const {
    for (const auto& [there, name] : found())
      if (there == step) return folder_ / name;
    return folder_ / name_of({.updates = step});
  }
  static std::string name_of(const run_state& s) {
    char name[96];
    if (s.epoch_updates < 1) {
      std::snprintf(name, sizeof name, "step-%08lld", static_cast<long long>(s.updates));
    } else {
      const index_t epoch = std::max<index_t>(0, s.updates - 1) / s.epoch_updates;
      std::snprintf(name, sizeof name, "step-%06lld-epoch-%02lld-loss=%.4f",
                    static_cast<long long>(s.updates), static_cast<long long>(epoch), s.loss);
    }
    return name;
  }

  template <class Model, engine E>
  void save(const Model& model, const optimizer<E>& o, const run_state& state,
            const json& config) const {
    const auto place = folder_ / name_of(state);
    auto aside = place, old = place;
    aside += ".tmp";
    old += ".old";
    std::error_code code;
    std::filesystem::remove_all(aside, code);  // what a killed run left
    std::filesystem::create_directories(aside, code);
    if (code) fail<io_error>(aside.string(), ": can't be made (", code.message(), ")");
    save_parameters(model, aside / "model.safetensors");
    write_safetensors(aside / "optimizer.safetensors", arrays_of(o));
    const json text = {{"format", 1},
                       {"updates", state.updates},
                       {"text_tokens", state.text_tokens},
                       {"labelled", state.labelled},
                       {"seconds", state.seconds},
                       {"config", config}};
    write_file(aside / "state.json", text.dump(1) + "\n");
    // A folder can't be replaced by a rename, so one of the same update makes way first.
    std::filesystem::rename(place, old, code);
    std::filesystem::rename(aside, place, code);
    if (code) fail<io_error>(place.string(), ": can't be put in place (", code.message(), ")");
    std::filesystem::remove_all(old, code);
    point_at(place.filename());
    remove_old(state.updates, place.filename().string());
  }

  /// Loads the newest checkpoint into model and optimizer; nothing if there is none.
  ///
  /// Errors    io_error if the run was another one: its config differs from `config`
  template <class Model, engine E>
  std::optional<run_state> load(Model& model, optimizer<E>& o, const json& config) const {
    const std::vector<index_t> all = steps();
    if (all.empty()) return std::nullopt;
    const auto place = path_of(all.back());
    const std::string who = (place / "state.json").string();
    const json text = read_json(place / "state.json");
    if (json_get<int>(text, "format", who) != 1)
      fail<io_error>(who, ": format ", text.at("format").dump(), "; 1 is wanted");
    compare(json_at(text, "config", who), config, who);
    const run_state state{.updates = json_get<index_t>(text, "updates", who),
                          .text_tokens = json_get<index_t>(text, "text_tokens", who),
                          .labelled = json_get<index_t>(text, "labelled", who),
                          .seconds = json_get<double>(text, "seconds", who)};
    if (state.updates != all.back())
      fail<io_error>(who, ": ", state.updates, " updates in the checkpoint of update ", all.back());

    load_weights(model, place / "model.safetensors");
    read_arrays(safetensors_file::open(place / "optimizer.safetensors"), o);
    o.set_updates(state.updates);
    return state;
  }

 private:
  template <engine E>
  static std::vector<safetensors_entry> arrays_of(const optimizer<E>& o) {
    using T = typename E::accum;
    std::vector<safetensors_entry> out;
    const auto add = [&](const std::string& name, const tensor<T, 1, typename E::memory>& t) {
      if (!t) return;
      const auto host = std::make_shared<tensor<T, 1>>(to_host(t.view()));
      out.push_back(entry_of<T>(name, {host->count()},
                                std::span<const T>(host->data(), std::size_t(host->count()))));
      out.back().owner = host;
    };
    for (const auto& s : o.slots()) {
      add("m." + s.path, s.m);
      add("v." + s.path, s.v);
      add("master." + s.path, s.master);
    }
    return out;
  }

  template <engine E>
  static void read_arrays(const safetensors_file& file, optimizer<E>& o) {
    using T = typename E::accum;
    std::size_t used = 0;
    const auto get = [&](const std::string& name, tensor<T, 1, typename E::memory>& t) {
      if (!t) return;
      const safetensors_entry& e = file.at(name);
      if (e.shape.size() != 1 || e.shape[0] != t.count() || e.type != dtype_of<T>())
        fail<io_error>(file.who(), ": \"", name, "\" is ", mlmamba::name_of(e.type), " ",
                       shape_text(e.shape), ", the run wants ", mlmamba::name_of(dtype_of<T>()),
                       " (", t.count(), ")");
      tensor<T, 1> host(shape<1>{{t.count()}});
      read_values(e, std::span<T>(host.data(), std::size_t(host.count())));
      from_host(t.view(), std::as_const(host).view());
      ++used;
    };
    for (auto& s : o.slots()) {
      get("m." + s.path, s.m);
      get("v." + s.path, s.v);
      get("master." + s.path, s.master);
    }
    if (used != file.entries().size())
      fail<io_error>(file.who(), ": ", file.entries().size(), " arrays, of which the run wants ",
                     used);
  }

  static void compare(const json& was, const json& is, const std::string& who) {
    if (was == is) return;
    const json changes = json::diff(was, is);
    const std::string at = changes.empty() ? "" : changes[0].value("path", "");
    const json::json_pointer key(at);
    const auto text = [&](const json& j) {
      return j.contains(key) ? detail_excerpt(j.at(key)) : std::string("absent");
    };
    fail<io_error>(who, ": the run had \"", at, "\" ", text(was), ", now it is ", text(is),
                   "; a resumed run wants the same (or another folder)");
  }
  static std::string detail_excerpt(const json& j) { return mlmamba::detail::json_excerpt(j); }

  /// Checkpoints that are whole: updates and name, ascending.
  std::vector<std::pair<index_t, std::string>> found() const {
    std::vector<std::pair<index_t, std::string>> out;
    std::error_code code;
    for (std::filesystem::directory_iterator at(folder_, code), end; !code && at != end;
         at.increment(code)) {
      const std::string name = at->path().filename().string();
      index_t step = 0;
      if (!name.starts_with("step-")) continue;
      const auto [stop, problem] =
          std::from_chars(name.data() + 5, name.data() + name.size(), step);
      const std::string_view rest(stop, std::size_t(name.data() + name.size() - stop));
      if (problem == std::errc() &&
          (rest.empty() ||
           (rest.starts_with("-epoch-") && !rest.ends_with(".tmp") && !rest.ends_with(".old"))))
        out.emplace_back(step, name);
    }
    std::sort(out.begin(), out.end());
    return out;
  }

  void point_at(const std::filesystem::path& name) const {
    const auto link = folder_ / "latest-checkpoint", aside = folder_ / "latest-checkpoint.tmp";
    std::error_code code;
    std::filesystem::remove(aside, code);
    std::filesystem::create_directory_symlink(name, aside, code);
    if (!code) std::filesystem::rename(aside, link, code);
  }

  void remove_old(index_t step, const std::string& newest) const {
    std::vector<std::pair<index_t, std::string>> all = found();
    std::error_code unused;
    // Another name of the same update: of an earlier try, whose loss was not known or another.
    std::erase_if(all, [&](const auto& c) {
      const bool replaced = c.first == step && c.second != newest;
      if (replaced) std::filesystem::remove_all(folder_ / c.second, unused);
      return replaced;
    });
    for (std::size_t i = 0; i + std::size_t(keep_) < all.size(); ++i)
      std::filesystem::remove_all(folder_ / all[i].second, unused);
  }

  std::filesystem::path folder_;
  int keep_;
};

}  // namespace mlmamba::train
