// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A run that is killed with SIGKILL, again and again, ends with the bits of one that was not.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include "io/temporary.hpp"
#include "mlmamba/train/prefetch.hpp"
#include "mlmamba/train/trainer.hpp"
#include "train/bigram.hpp"

using namespace mlmamba;
using namespace mlmamba::train;
using test::bigram;

namespace {
// Weights in bf16, so that master weights have to survive too.
using E = on<backend::reference, bf16>;
constexpr index_t steps = 60;

data_source chains_source() {
  data_source s;
  s.name = "chains";
  s.size = 37;
  s.get = [](std::uint64_t i) {
    example e;
    const std::string text(3 + i % 5, char('a' + i % 11));
    e.turns = {{text, true}, {std::string(1, char('a' + i % 7)), false}};
    return e;
  };
  return s;
}

// One whole run, or the rest of one; `pause_us` after each update leaves time to be killed.
void train_in(const std::filesystem::path& folder, int threads, unsigned pause_us) {
  context_of<E> ctx;
  bigram<E> m(128);
  nn::initialise(m, {3, 0, 0});
  trainer_options o;
  o.rate = {.peak = 0.05, .steps = steps, .warmup = 5};
  o.folder = folder;
  o.checkpoint_every = 2;
  o.show = false;
  trainer<bigram<E>, test::bigram_gradients> t(ctx, m, {}, o);
  t.resume();
  batch_builder build;
  build.encode = [](std::string_view text) {
    std::vector<std::int32_t> ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  };
  build.chat = chat_format::plain;
  build.micro_batch_size = 3;
  const data_source source = chains_source();
  prefetcher data(source, sampler(source, 5, sampling::shuffled, 9), build, t.state().updates,
                  threads);
  t.run([&] {
    if (pause_us) ::usleep(pause_us);
    return data.next();
  });
}

std::string checkpoint(const std::filesystem::path& folder, const char* file) {
  return test::slurp(saved_run(folder / "checkpoints").path_of(steps) / file);
}
}  // namespace

TEST_SUITE("resume_test") {
  TEST_CASE("killed and resumed equals not killed, bit for bit, whatever the prefetch threads") {
    const test::temporary_folder folder;
    train_in(folder / "whole", 2, 0);
    const saved_run checkpoints(folder / "killed" / "checkpoints");
    const auto newest = [&] {
      const auto all = checkpoints.steps();
      return all.empty() ? index_t{0} : all.back();
    };
    index_t kills = 0;
    for (unsigned attempt = 0; newest() < steps && attempt < 60; ++attempt) {
      const pid_t child = ::fork();
      REQUIRE(child >= 0);
      if (child == 0) {
        try {
          train_in(folder / "killed", int(attempt % 3), 500);
        } catch (...) {
          ::_exit(3);
        }
        ::_exit(0);
      }
      // Kill it soon after it has got further: between checkpoints, or while one is written.
      const index_t before = newest();
      int status = 0;
      pid_t ended = 0;
      while ((ended = ::waitpid(child, &status, WNOHANG)) == 0 && newest() == before) ::usleep(200);
      if (ended == 0) {
        ::usleep(700 * (attempt % 13));
        ::kill(child, SIGKILL);
        ::waitpid(child, &status, 0);
      }
      if (WIFSIGNALED(status)) {
        ++kills;
      } else {
        CHECK(WEXITSTATUS(status) == 0);
      }
    }
    CHECK(newest() == steps);
    MESSAGE("killed ", kills, " times");
    CHECK(kills >= 3);
    for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
      const std::string a = checkpoint(folder / "whole", file);
      CHECK(a.size() > 1000);
      CHECK((a == checkpoint(folder / "killed", file)));
    }
  }
}
