// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Garment scenes: answers agree with a second reading, classes are balanced, photos are in place.
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "mlmamba/train/garment.hpp"
#include "mlmamba/train/garment/write.hpp"  // records_of
#include "train/garment_photos.hpp"
#include "train/garment_reading.hpp"

namespace {

namespace garment = mlmamba::train::garment;
using garment::made_up;
using garment::question_type;

using garment::classes_in, garment::reading;

TEST_SUITE("train/garment") {
  TEST_CASE("every answer agrees with a second reading of the scene") {
    for (const auto which : {garment::split::train, garment::split::test}) {
      const garment::source photos = made_up(which);
      std::array<int, garment::question_type_count> seen{};
      std::set<std::string> answers_at, answers_where;
      for (std::uint64_t i = 0; i < 600; ++i) {
        const garment::scene s = garment::make_scene(photos, 11, i, {.size = 48, .turns = 12});
        const reading r(s, photos);
        CAPTURE(i);
        CHECK(s.objects.size() >= 1);
        std::set<std::string> texts;
        for (const garment::question& q : s.questions) {
          CAPTURE(q.text);
          CHECK(q.text.find_first_of("{}") == std::string::npos);
          CHECK(q.answer == r.answer(q));
          if (q.type != question_type::presence) CHECK(texts.insert(q.text).second);
          ++seen[std::size_t(q.type)];
          if (q.type == question_type::what_at) answers_at.insert(q.answer);
          if (q.type == question_type::where) answers_where.insert(q.answer);
        }
      }
      for (int n : seen) CHECK(n > 100);
      CHECK(answers_at.size() == 11);  // ten classes and nothing
      CHECK(answers_where.size() == 9);
    }
  }

  TEST_CASE("presence is balanced exactly, by negative kind too, and same nearly") {
    const garment::source photos = made_up(garment::split::test);
    std::map<std::string, int> yes, no;
    int same = 0, different = 0;
    for (std::uint64_t i = 0; i < 1000; ++i)
      for (const auto& q : garment::make_scene(photos, 5, i, {.size = 48, .turns = 10}).questions) {
        if (q.type == question_type::presence) ++(q.answer == "yes" ? yes : no)[q.kind];
        if (q.type == question_type::same) ++(q.answer == "same" ? same : different);
      }
    CHECK(yes.size() == 3);
    CHECK(yes == no);
    CHECK(yes["adversarial"] > 200);
    const int n = same + different;
    CHECK(n > 300);
    CHECK((same - different) * (same - different) <
          16 * n);  // 4 standard deviations of a fair coin
  }

  TEST_CASE("popular negatives are frequent classes, adversarial ones fit the scene") {
    const auto& counts = garment::meeting_counts::get();
    struct series {  // mean and the square of its standard error
      double n = 0, sum = 0, squares = 0;
      void add(double x) { n += 1, sum += x, squares += x * x; }
      double mean() const { return sum / n; }
      double error() const { return (squares / n - mean() * mean()) / n; }
    };
    std::map<std::string, series> frequency, fit;
    for (std::uint64_t i = 0; i < 20000; ++i) {
      garment::draws random(3, garment::split::train, i, garment::for_layout);
      const garment::layout l = garment::draw_layout(random);
      garment::type_weights only_presence{1};
      for (const auto& q : garment::asker(l, 3, garment::split::train, i).ask(1, only_presence)) {
        if (q.answer == "yes") continue;
        const int kind = classes_in(q.text).at(0);
        frequency[q.kind].add(counts.with[std::size_t(kind)]);
        fit[q.kind].add(counts.suggested(l, kind));
      }
    }
    const auto larger = [](const series& a, const series& b) {  // by five standard errors
      return a.mean() - b.mean() > 5 * std::sqrt(a.error() + b.error());
    };
    CHECK(fit.size() == 3);
    CHECK(larger(frequency["popular"], frequency["random"]));
    CHECK(larger(fit["adversarial"], fit["random"]));
    CHECK(larger(fit["adversarial"], fit["popular"]));
  }

  TEST_CASE("a scene depends on seed, split and index only, and has the same bytes everywhere") {
    const garment::source photos = made_up(garment::split::train);
    const garment::scene a = garment::make_scene(photos, 7, 123),
                         b = garment::make_scene(photos, 7, 123);
    CHECK(a.pixels == b.pixels);
    CHECK(garment::records_of(a) == garment::records_of(b));
    CHECK(a.pixels != garment::make_scene(photos, 8, 123).pixels);
    CHECK(a.pixels != garment::make_scene(photos, 7, 124).pixels);
    CHECK(a.pixels != garment::make_scene(made_up(garment::split::test), 7, 123).pixels);
    const std::string_view bytes(reinterpret_cast<const char*>(a.pixels.data()), a.pixels.size());
    CHECK(mlmamba::hash(bytes) ==
          11919836295743900776u);  // integers only: no compiler may change it
    CHECK(mlmamba::hash(garment::records_of(a)) == 6100295821466524524u);
  }

  TEST_CASE("a photo at its own size is set pixel for pixel at the place of its class") {
    const garment::source photos = made_up(garment::split::test);
    for (const int inverted : {0, 100}) {
      const garment::options exact{.size = 96,
                                   .min_scale = 100,
                                   .max_scale = 100,
                                   .jitter = 0,
                                   .dark_on_light = inverted,
                                   .min_contrast = 100,
                                   .max_noise = 0};
      const garment::scene s = garment::make_scene(photos, 1, 40, exact);
      REQUIRE(s.objects.size() > 0);
      for (const garment::object& o : s.objects) {
        CHECK(photos.labels[o.photo] == o.kind);
        CHECK(s.cells.at(o.place) == o.kind);
        for (int y = 0; y < 28; ++y)
          for (int x = 0; x < 28; ++x) {
            const int row = o.place / 3 * 32 + 2 + y, column = o.place % 3 * 32 + 2 + x;
            const int got = s.pixels[std::size_t(row * 96 + column)];
            const int g = photos.photo(o.photo)[y * 28 + x];
            // Full garment is white, or black if inverted; none is the ground, 0 to 72 or 184 to
            // 255.
            const int low = inverted ? 184 - 184 * g / 255 - 1 : g;
            const int high = inverted ? 255 - g : 72 + 183 * g / 255 + 1;
            if (got < low || got > high) FAIL("pixel ", x, ", ", y, " of ", o.place, " is ", got);
          }
      }
    }
  }

  TEST_CASE("photos stay inside the picture and near their cell at any size") {
    const garment::source photos = made_up(garment::split::train);
    for (const int size : {48, 99, 384})
      for (std::uint64_t i = 0; i < 20; ++i) {
        const garment::scene s = garment::make_scene(photos, 2, i, {.size = size, .turns = 0});
        CHECK(s.pixels.size() == std::size_t(size * size));
        CHECK(s.questions.empty());
        for (const garment::object& o : s.objects) {
          CHECK(o.left >= 0);
          CHECK(o.top >= 0);
          CHECK(o.left + o.side <= size * 256);
          CHECK(o.top + o.side <= size * 256);
          CHECK((o.left + o.side / 2) / (size / 3 * 256) == o.place % 3);
          CHECK((o.top + o.side / 2) / (size / 3 * 256) == o.place / 3);
        }
      }
  }

  TEST_CASE("options out of range are refused by name") {
    const garment::source photos = made_up(garment::split::train);
    for (const garment::options& bad :
         {garment::options{.size = 45}, garment::options{.size = 97}, garment::options{.size = -3},
          garment::options{.turns = -1}, garment::options{.min_scale = 110, .max_scale = 100},
          garment::options{.max_scale = 111}, garment::options{.jitter = 101},
          garment::options{.max_noise = -1}, garment::options{.weights = {}}})
      CHECK_THROWS_AS(garment::make_scene(photos, 1, 0, bad), mlmamba::error);
  }

  TEST_CASE("only the wanted types are asked") {
    const garment::source photos = made_up(garment::split::train);
    garment::options want{.size = 48, .turns = 6, .weights = {}};
    want.weights[std::size_t(question_type::list)] = 1;
    for (std::uint64_t i = 0; i < 20; ++i) {
      const auto questions = garment::make_scene(photos, 1, i, want).questions;
      REQUIRE(questions.size() == 1);  // at most one list in a conversation
      CHECK(questions[0].type == question_type::list);
    }
    want.weights = {};
    want.weights[std::size_t(question_type::where)] = 1;
    for (std::uint64_t i = 0; i < 20; ++i)
      for (const auto& q : garment::make_scene(photos, 1, i, want).questions)
        CHECK(q.type == question_type::where);
  }

  TEST_CASE("the corpus has every text that scenes use, but for captions and lists") {
    std::set<std::string> lines;
    std::istringstream text(garment::corpus(10));
    for (std::string line; std::getline(text, line);) lines.insert(line);
    const garment::source photos = made_up(garment::split::train);
    for (std::uint64_t i = 0; i < 100; ++i)
      for (const auto& q : garment::make_scene(photos, 4, i, {.size = 48, .turns = 12}).questions) {
        CHECK(lines.count(q.text) == 1);
        if (q.type != question_type::caption && q.type != question_type::list)
          CHECK(lines.count(q.answer) == 1);
      }
  }
}

}  // namespace
