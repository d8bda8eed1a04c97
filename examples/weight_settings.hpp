// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The options that say how a model is held in memory, for the programs that have them.
#pragma once

#include <CLI/CLI.hpp>

#include <string>

#include "loaded_model.hpp"
#include "program.hpp"

namespace mlmamba::examples {

struct weight_settings {
  std::string weights = "auto", activations = "auto", state = "f32";
  index_t group = 64;
  bool prepare = false;
};

inline void add_options(CLI::App& app, weight_settings& s) {
  app.add_option(
         "--weights", s.weights,
         "How matrices are held: f32, bf16, int8, int4 (activations in 8 bits for the last\n"
         "two), or auto: as the model was quantised; bf16 if the files have them so, as\n"
         "they lie there (the same answers, to rounding, in half the memory), or if\n"
         "activations are bf16; else f32. On a GPU f32 (auto), or bf16, which is for\n"
         "activations too")
      ->check(CLI::IsMember({"auto", "f32", "bf16", "int8", "int4"}))
      ->capture_default_str();
  app.add_option(
         "--activations", s.activations,
         "How activations are held between ops: f32, bf16, or auto: f32, on a GPU as weights.\n"
         "bf16, with weights in bf16, int8 or int4: pictures and prompts are read faster on a\n"
         "CPU with AMX, to 8 bits of precision")
      ->check(CLI::IsMember({"auto", "f32", "bf16"}))
      ->capture_default_str();
  app.add_option("--group", s.group,
                 "int8, int4: neighbouring weights of a row with one scale; 0: all")
      ->capture_default_str();
  app.add_flag(
      "--prepare", s.prepare,
      "Arrange f32 and bf16 for the kernels too: faster answers, and nothing stays in the\n"
      "mapped files");
  app.add_option("--state", s.state,
                 "How states of scans are held between tokens: f32, or bf16 with int8, int4 or\n"
                 "--prepare, on a GPU with --weights bf16: half as much to read and write")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->capture_default_str();
}

/// Errors    error if one of them has no effect with the others
inline void check_options(const CLI::App& app, const weight_settings& s, const checkpoint& files) {
  const bool integers = s.weights == "int8" || s.weights == "int4";
  const bool quantised = s.weights == "auto" && json_has(files.config(), "quantisation");
  if (integers || quantised)
    no_use_of(app, {"--prepare"},
              quantised ? "on " + files.who() + ", which is quantised; without it is wanted"
                        : "with --weights " + s.weights + "; f32, bf16 or auto is wanted");
  if (!integers)
    no_use_of(app, {"--group"}, "with --weights " + s.weights + "; int8 or int4 is wanted");
}

inline weight_options options_of(const weight_settings& s) {
  if (const char* p = problem_with({weight_scheme::int8, s.group}))
    fail<error>("--group ", s.group, ": ", p);
  return {weight_choice_of(s.weights), s.group, s.prepare, s.state == "bf16",
          activation_choice_of(s.activations)};
}

/// What tells results apart. Usual values but that of --weights are left out, as in files that were
/// begun when only --weights was there.
inline json record_of(const weight_settings& s) {
  const weight_settings usual;
  json all{{"weights", s.weights}};
  if (s.group != usual.group) all["group"] = s.group;
  if (s.prepare) all["prepare"] = true;
  if (s.state != usual.state) all["state"] = s.state;
  if (s.activations == "bf16")
    all["activations"] = s.activations;  // f32 is the usual, if it is had
  return all;
}

}  // namespace mlmamba::examples
