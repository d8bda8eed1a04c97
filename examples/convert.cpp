// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Weights from one kind of file into another: safetensors, one file or several, and torch.save's.
//
//   convert pytorch_model.bin model.safetensors
//   convert model.safetensors model.pt --dtype bf16
//   convert ML-Mamba folder --vision timm        a model of several files as a folder of its own
//   convert run/model ML-Mamba --layout original a trained model for the original's programs
#include <CLI/CLI.hpp>

#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "mlmamba/io/output_folder.hpp"
#include "mlmamba/io/weight_convert.hpp"
#include "mlmamba/models/published/original_layout.hpp"
#include "mlmamba/models/published/tower_files.hpp"
#include "program.hpp"

using namespace mlmamba;
namespace fs = std::filesystem;

namespace {

struct settings {
  std::string in, out, type, layout = "library";
  std::vector<fs::path> vision;
};

dtype type_of(const std::string& name) {
  if (name == "f64") return dtype::f64;
  if (name == "f32") return dtype::f32;
  if (name == "f16") return dtype::f16;
  if (name == "bf16") return dtype::bf16;
  fail<error>("--dtype ", name, "; f64, f32, f16 or bf16 is wanted");
}

/// A folder as the authors of ML-Mamba have theirs: the towers are not in it.
void write_original(const settings& s, const fs::path& to) {
  const checkpoint files(s.in, s.vision);
  weights all = original_layout(files.arrays(), files.who());
  if (!s.type.empty()) convert_floats(all.arrays, type_of(s.type));
  output_folder made(to), inner(to / "checkpoints");
  write_weights(inner.path() / "latest-checkpoint.pt", std::move(all));
  write_file(to / "config.json", original_config(files.config()).dump(2) + "\n");
  made.keep(), inner.keep();
}

/// A folder that `checkpoint` reads: config.json last, so that one that has it is complete.
void write_folder(const settings& s, const fs::path& to) {
  const checkpoint files(s.in, s.vision);
  weights all{files.arrays(), {}, {}};
  json config = files.config();
  if (has_towers(config)) add_tower_arrays(all.arrays, config, files.places(), files.who());
  config.erase("weights");  // they are in one file now
  if (!s.type.empty()) convert_floats(all.arrays, type_of(s.type));
  const auto words =
      files.folder() / json_get_or<std::string>(config, "tokenizer", "tokenizer.json", files.who());
  output_folder made(to);
  write_weights(to / "model.safetensors", std::move(all));
  if (std::error_code none; fs::exists(words, none)) {
    config.erase("tokenizer");
    write_file(to / "tokenizer.json", mapped_file(words).bytes());
  }
  write_file(to / "config.json", config.dump(2) + "\n");
  made.keep();
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app{
      "Converts weights: names, order, types and every bit are kept.\n"
      "Exit code: 0 done, 2 bad option or input."};
  app.add_option("IN", s.in,
                 "File .safetensors, .pt, .pth or .bin, an index .json of several, or a folder")
      ->required();
  app.add_option("OUT", s.out,
                 "File .safetensors, .pt, .pth or .bin; or a folder, if IN is a model's: one with\n"
                 "config.json, model.safetensors and tokenizer.json, vision towers included")
      ->required();
  app.add_option("--dtype", s.type, "Floats as f64, f32, f16 or bf16, rounded to nearest");
  app.add_option("--layout", s.layout,
                 "Of a folder OUT: library, or original: config.json and\n"
                 "checkpoints/latest-checkpoint.pt as the authors of ML-Mamba have them")
      ->check(CLI::IsMember({"library", "original"}))
      ->capture_default_str();
  app.add_option("--vision", s.vision,
                 "One more folder in which vision towers of a model are looked for: timm's files;\n"
                 "may be repeated")
      ->check(examples::folder_problem)
      ->allow_extra_args(false);  // IN and OUT may follow
  if (const auto code = examples::parse(app, argc, argv)) return *code;
  try {
    if (!detail::holds_weights(s.out)) {
      if (fs::path(s.out).has_extension() && !fs::is_directory(s.out))
        fail<error>(s.out, ": .safetensors, .pt, .pth, .bin or a folder is wanted");
      std::error_code none;
      if (fs::equivalent(s.in, s.out, none))
        fail<error>(s.out, ": the same folder as IN; another one is wanted");
      if (s.layout == "original")
        examples::no_use_of(app, {"--vision"}, "with --layout original, which has no towers");
      s.layout == "original" ? write_original(s, s.out) : write_folder(s, s.out);
      return 0;
    }
    if (s.layout == "original") fail<error>(s.out, ": --layout is of a folder; one is wanted");
    examples::no_use_of(app, {"--vision"}, "on a file OUT; a folder is wanted");
    weights all = read_weights(s.in);
    if (!s.type.empty()) convert_floats(all.arrays, type_of(s.type));
    write_weights(s.out, std::move(all));
  } catch (const std::exception& e) {
    std::cerr << "convert: " << e.what() << '\n';
    return 2;
  }
  return 0;
}
