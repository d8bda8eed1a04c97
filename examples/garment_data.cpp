// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Writes a Garment VQA data set: PNG scenes of real product photos and LLaVA-style JSON.
//
//   garment_data --out data --split train --scenes 50000
//   garment_data --out data --split test --scenes 1250
//   garment_data --corpus texts.txt
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>

#include "mlmamba/train/garment.hpp"
#include "mlmamba/train/garment/write.hpp"
#include "program.hpp"

namespace garment = mlmamba::train::garment;

namespace {

// A bar that is redrawn on a terminal; elsewhere a line per tenth, as a log wants it.
class progress_bar {
 public:
  explicit progress_bar(std::uint64_t total) : total_(total), live_(isatty(STDERR_FILENO) != 0) {}

  void operator()(std::uint64_t done) {
    const int step =
        static_cast<int>(done * (live_ ? 200 : 10) / std::max<std::uint64_t>(1, total_));
    if (step == last_) return;
    last_ = step;
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    const double rate = double(done) / std::max(seconds, 1e-3);
    const double left = double(total_ - done) / std::max(rate, 1e-3);
    if (live_) {
      const std::string filled(static_cast<std::size_t>(step * 30 / 200), '#');
      std::fprintf(stderr, "\r[%-30s] %llu of %llu scenes, %.0f/s, %.0f s left   ", filled.c_str(),
                   static_cast<unsigned long long>(done), static_cast<unsigned long long>(total_),
                   rate, left);
      if (done == total_) std::fputc('\n', stderr);
    } else {
      std::fprintf(stderr, "%llu of %llu scenes, %.0f/s, %.0f s left\n",
                   static_cast<unsigned long long>(done), static_cast<unsigned long long>(total_),
                   rate, left);
    }
  }

 private:
  std::uint64_t total_;
  bool live_;
  int last_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

int main(int argc, char** argv) {
  std::string out, corpus, source = garment::default_folder, split = "train";
  std::uint64_t scenes = 1000, seed = 1;
  int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  garment::options want;

  CLI::App app{
      "Writes a Garment VQA data set: pictures of 1 to 9 garments on a 3x3 grid, and questions "
      "with\n"
      "one right answer. OUT gets SPLIT.json (LLaVA format), SPLIT.recipe.json and SPLIT/*/*.png.\n"
      "Exit code: 0 done, 2 bad option or input, or it can't be written."};
  app.add_option("--out", out, "Folder to write into; made if missing");
  app.add_option("--split", split, "Which photos")
      ->check(CLI::IsMember({"train", "test"}))
      ->capture_default_str();
  app.add_option("--scenes", scenes, "Number of pictures (even: presence is then exactly balanced)")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{100000000}))
      ->capture_default_str();
  app.add_option("--seed", seed, "Scene i depends on seed, split and i only")
      ->check(mlmamba::examples::seed_problem)
      ->capture_default_str();
  app.add_option("--turns", want.turns, "Questions per picture")->capture_default_str();
  app.add_option("--size", want.size, "Side of a picture in pixels; a multiple of 3")
      ->capture_default_str();
  app.add_option("--min-scale", want.min_scale, "Least size of a photo in percent")
      ->capture_default_str();
  app.add_option("--max-scale", want.max_scale, "Largest size of a photo in percent")
      ->capture_default_str();
  app.add_option("--jitter", want.jitter, "Share of the play a photo may move, in percent")
      ->capture_default_str();
  app.add_option("--dark-on-light", want.dark_on_light, "Share of inverted pictures in percent")
      ->capture_default_str();
  app.add_option("--min-contrast", want.min_contrast, "Least contrast of a garment in percent")
      ->capture_default_str();
  app.add_option("--noise", want.max_noise, "Most noise of a picture, in grey levels")
      ->capture_default_str();
  for (std::size_t t = 0; t < want.weights.size(); ++t)
    app.add_option(std::string("--weight-") + garment::question_type_names[t], want.weights[t],
                   "How often this type is asked")
        ->capture_default_str();
  app.add_option("--source", source, "Folder with the four Fashion-MNIST files")
      ->capture_default_str();
  app.add_option("--threads", threads, "They change the speed, never the bytes")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--corpus", corpus, "Write all texts, one per line, into this file");
  if (const auto code = mlmamba::examples::parse(app, argc, argv)) return *code;
  try {
    if (out.empty() && corpus.empty())
      mlmamba::fail("nothing to do: --out FOLDER or --corpus FILE is wanted");
    if (out.empty())
      for (const CLI::Option* o : app.get_options())
        if (const std::string name = o->get_name(); name != "--corpus")
          mlmamba::examples::no_use_of(app, {name.c_str()}, "without --out; a folder is wanted");
    want.check();
    garment::source photos;
    if (!out.empty())
      photos = garment::load_source(split == "test" ? garment::split::test : garment::split::train,
                                    source);
    if (!corpus.empty()) mlmamba::write_file(corpus, garment::corpus());
    if (out.empty()) return 0;
    progress_bar bar(scenes);
    const garment::written sum =
        garment::write_scenes(photos, out, scenes, seed, want, threads, std::ref(bar));
    std::printf("%s: %llu pictures with %llu garments\n", split.c_str(),
                static_cast<unsigned long long>(sum.scenes),
                static_cast<unsigned long long>(sum.garments));
    for (std::size_t t = 0; t < sum.questions.size(); ++t)
      std::printf("  %-10s %10llu\n", garment::question_type_names[t],
                  static_cast<unsigned long long>(sum.questions[t]));
    std::printf("  presence: %llu yes\n", static_cast<unsigned long long>(sum.yes));
    return mlmamba::examples::written();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "garment_data: %s\n", e.what());
    return 2;
  }
}
