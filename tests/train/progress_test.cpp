// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// How a run shows itself: a bar on a terminal, lines in a log, JSON lines in a file.
#include "mlmamba/train/progress.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "io/temporary.hpp"

using namespace mlmamba;
using train::duration_text, train::metrics_file, train::progress;

namespace {

/// What is written to a stream of a file: a log.
template <class F>
std::string logged(F&& f) {
  const test::temporary_folder folder;
  const auto path = folder / "log";
  std::FILE* to = std::fopen(path.c_str(), "w");
  REQUIRE(to != nullptr);
  f(to);
  std::fclose(to);
  return test::slurp(path);
}

/// What is written to a terminal. Nothing if the system lends none.
template <class F>
std::string shown(F&& f) {
  const int master = ::posix_openpt(O_RDWR | O_NOCTTY);
  if (master < 0 || ::grantpt(master) != 0 || ::unlockpt(master) != 0) return "";
  const int side = ::open(::ptsname(master), O_RDWR | O_NOCTTY);
  REQUIRE(side >= 0);
  std::FILE* to = ::fdopen(side, "w");
  f(to);
  std::fflush(to);
  ::fcntl(master, F_SETFL, O_NONBLOCK);
  std::string text;
  char part[512];
  for (ssize_t n; (n = ::read(master, part, sizeof part)) > 0;) text.append(part, std::size_t(n));
  std::fclose(to);
  ::close(master);
  return text;
}
std::size_t count(const std::string& text, const std::string& what) {
  std::size_t n = 0;
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
  return n;
}

TEST_SUITE("progress_test") {
  TEST_CASE("durations as people say them") {
    CHECK(duration_text(0) == "0 s");
    CHECK(duration_text(59.4) == "59 s");
    CHECK(duration_text(59.6) == "1 min 00 s");
    CHECK(duration_text(3599) == "59 min 59 s");
    CHECK(duration_text(3600 * 26 + 65) == "26 h 01 min");
    CHECK(duration_text(-3) == "0 s");
  }

  TEST_CASE("a log gets a line each so many, and the last") {
    const std::string text = logged([](std::FILE* to) {
      progress bar("update", 7, 0, 3, to);
      for (index_t i = 1; i <= 7; ++i) bar(i, "loss " + std::to_string(i));
    });
    CHECK(count(text, "\n") == 3);
    CHECK(text.starts_with("update 3/7  loss 3  "));
    CHECK(count(text, "update 6/7  loss 6") == 1);
    CHECK(count(text, "update 7/7  loss 7") == 1);
    CHECK(count(text, " left\n") == 3);
    CHECK(text.find_first_of("\r\x1b[") == std::string::npos);
  }

  TEST_CASE("a terminal gets one bar, redrawn in place and closed with its line") {
    const std::string text = shown([](std::FILE* to) {
      progress bar("scene", 4, 0, 1, to);
      for (index_t i = 1; i <= 4; ++i) bar(i, "pictures");
    });
    if (text.empty()) {
      MESSAGE("no terminal to be had");
      return;
    }
    CHECK(count(text, "\n") == 1);
    CHECK(text.find("\n") == text.size() - 1);
    CHECK(count(text, "\r\x1b[K[") == 2);  // the first and the last: no more than ten a second
    CHECK(count(text, "[######------------------] scene 1/4  pictures  ") == 1);
    CHECK(count(text, "[########################] scene 4/4  pictures  ") == 1);
  }

  TEST_CASE("a bar that is left leaves the line; a finished or empty run is no trouble") {
    const std::string text = shown([](std::FILE* to) {
      progress bar("update", 100, 90, 1, to);
      bar(91, "");
      bar.end_line();
      bar.end_line();
      std::fputs("said", to);
    });
    if (!text.empty()) CHECK(text.ends_with("left\r\nsaid"));
    CHECK(logged([](std::FILE* to) {
            progress("update", 0, 0, 0, to)(0, "none");
          }).starts_with("update 0/0  none"));
  }

  TEST_CASE("metrics: a resumed run drops what lies after its checkpoint") {
    const test::temporary_folder folder;
    const auto path = folder / "metrics.jsonl";
    {
      metrics_file m(path, 0);
      for (int i = 1; i <= 4; ++i) m.add({{"step", i}, {"loss", 0.5}});
    }
    test::spill(path, test::slurp(path) + "no json\n{\"step\": 2, \"cut");
    {
      metrics_file m(path, 2);
      m.add({{"step", 3}, {"loss", 0.25}});
    }
    CHECK(test::slurp(path) ==
          "{\"loss\":0.5,\"step\":1}\n{\"loss\":0.5,\"step\":2}\n{\"loss\":0.25,\"step\":3}\n");
    metrics_file().add({{"step", 1}});  // to nowhere
    CHECK_THROWS_AS(metrics_file(folder / "no" / "folder" / "m", 0), io_error);
  }
}

}  // namespace
