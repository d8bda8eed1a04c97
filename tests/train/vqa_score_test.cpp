// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Scores of answers, against values worked out by hand.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "mlmamba/train/vqa_score.hpp"

namespace {

using namespace mlmamba::train;
using doctest::Approx;

TEST_SUITE("train/vqa_score") {
  TEST_CASE("answers are compared without case, outer space, final period; digits are words") {
    CHECK(normalised_answer("  Top  Left. \n") == "top left");
    CHECK(normalised_answer("2") == "two");
    CHECK(normalised_answer("12") == "12");
    CHECK(normalised_answer(" .. ") == "");
    CHECK(normalised_answer("a.b") == "a.b");
    CHECK(is_right({"count", "", "two", " 2."}));
    CHECK(!is_right({"what_at", "", "shirt", "t-shirt"}));
    CHECK(!is_right({"what_at", "", "bag", "bag bag"}));
    CHECK(!is_right({"what_at", "", "bag", ""}));
  }

  TEST_CASE("Wilson's interval") {
    // By hand for 8 of 10: middle (0.8 + 0.19207) / 1.38415, half 1.95996 sqrt(0.016 + 0.0096)
    // / 1.38415.
    CHECK(share{8, 10}.low() == Approx(0.490162).epsilon(1e-5));
    CHECK(share{8, 10}.high() == Approx(0.943318).epsilon(1e-5));
    CHECK(share{0, 10}.low() == Approx(0).epsilon(1e-12));
    CHECK(share{0, 10}.high() == Approx(0.277533).epsilon(1e-5));
    CHECK(share{10, 10}.high() == Approx(1).epsilon(1e-12));
    CHECK(share{0, 0}.low() == 0);
    CHECK(share{0, 0}.high() == 1);
  }

  TEST_CASE("POPE's measures") {
    std::vector<answered> a;
    const auto put = [&](int n, const char* truth, const char* given, const char* kind) {
      for (int i = 0; i < n; ++i) a.push_back({"presence", kind, truth, given});
    };
    put(6, "yes", "Yes.", "random");
    put(2, "yes", "no", "popular");
    put(1, "no", "yes, there is", "popular");
    put(5, "no", "No", "random");
    put(2, "yes", "bag", "random");
    const vqa_report r = score_answers(a);
    CHECK(r.presence.total() == 16);
    CHECK(r.presence.accuracy() == Approx(11.0 / 16));
    CHECK(r.presence.precision() == Approx(6.0 / 7));
    CHECK(r.presence.recall() == Approx(6.0 / 10));
    CHECK(r.presence.f1() == Approx(2 * (6.0 / 7) * 0.6 / (6.0 / 7 + 0.6)));
    CHECK(r.presence.yes_ratio() == Approx(7.0 / 16));
    REQUIRE(r.presence_by_kind.size() == 2);
    CHECK(r.presence_by_kind[0].first == "popular");
    CHECK(r.presence_by_kind[0].second.accuracy() == 0);
    CHECK(r.presence_by_kind[1].second.total() == 13);
    CHECK(yes_no_score{}.f1() == 0);  // no answers: zeros, not NaN
  }

  TEST_CASE("long answers are scored whole and by their parts") {
    CHECK(part_f1("two bags and one coat.", "two bags and one coat.") == 1);
    CHECK(part_f1("two bags and one coat.", "two bags, one shirt and one coat.") == Approx(0.8));
    CHECK(part_f1("top left: bag; centre: nothing.", "top left: bag; centre: coat.") ==
          Approx(0.5));
    CHECK(part_f1("", "one bag.") == 0);
    CHECK(part_f1("one bag, one bag", "one bag.") == Approx(2.0 / 3));
  }

  TEST_CASE("the report counts types, kinds and totals") {
    const std::vector<answered> a{{"count", "class", "two", "two"},
                                  {"count", "all", "five", "four"},
                                  {"what_at", "", "bag", "bag"},
                                  {"caption", "", "one bag.", "one coat."}};
    const vqa_report r = score_answers(a);
    REQUIRE(r.rows.size() == 5);
    CHECK(r.rows[0].type == "count");
    CHECK(r.rows[0].exact.total == 2);
    CHECK(r.rows[0].exact.right == 1);
    CHECK(r.rows[1].kind == "all");
    CHECK(r.rows[1].exact.right == 0);
    CHECK(r.all.total == 4);
    CHECK(r.all.right == 2);
    CHECK(r.all_short.total == 3);
    CHECK(r.all_short.right == 2);

    const auto json = to_json(r);
    CHECK(json["types"]["count"]["accuracy"] == 0.5);
    CHECK(json["types"]["count"]["kinds"]["all"]["right"] == 0);
    CHECK(json["types"]["caption"]["parts"] == 0.0);
    CHECK(json["all"]["number"] == 4);
    CHECK(!json.contains("pope"));
    CHECK(nlohmann::json::parse(json.dump())["all"]["right"] == 2);

    const std::string table = to_table(r);
    CHECK(table.find("count                           2     50.0   [") != std::string::npos);
    std::size_t width = 0;
    for (std::size_t begin = 0; begin < table.size();) {
      const std::size_t end = table.find('\n', begin);
      const std::size_t bracket = table.find(']', begin);
      if (bracket < end) CHECK((width == 0 || width == bracket - begin));
      if (bracket < end) width = bracket - begin;
      begin = end + 1;
    }
    CHECK(score_answers({}).all.total == 0);
  }
}

}  // namespace
