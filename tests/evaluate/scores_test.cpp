// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Answers, boxes, curves and random numbers as Python and scikit-learn have them (goldens.json),
// and reports worked out by hand.
#include "mlmamba/evaluate/scores.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "mlmamba/evaluate/python_random.hpp"
#include "mlmamba/io/json.hpp"

using namespace mlmamba;
using namespace mlmamba::evaluate;

namespace {
const json& goldens() {
  static const json all = read_json(MLMAMBA_TEST_DATA "/evaluate/goldens.json");
  return all;
}
double value(const report& r, const std::string& name) {
  for (const measure& m : r.measures)
    if (m.name == name) return m.value ? *m.value : -1;
  FAIL("there is no measure " << name);
  return 0;
}
std::size_t number(const report& r, const std::string& name) {
  for (const measure& m : r.measures)
    if (m.name == name) return m.questions;
  return 12345;
}
std::vector<std::string> ten(const std::string& a, int n, const std::string& b) {
  std::vector<std::string> out(std::size_t(n), a);
  out.resize(10, b);
  return out;
}
question asked(const std::string& group, std::vector<std::string> answers,
               const std::string& kind = "") {
  question q;
  q.group = group, q.kind = kind, q.answers = std::move(answers);
  return q;
}
question chosen(const std::string& group, int right) {
  question q;
  q.group = group, q.right = right;
  return q;
}
answer said(const std::string& text) { return {text, {}}; }
answer finds(std::vector<double> p) { return {"", std::move(p)}; }
}  // namespace

TEST_SUITE("evaluate_scores_test") {
  TEST_CASE("random numbers and shuffles are Python's") {
    python_random r(21);
    const json& bits = goldens().at("bits");
    for (std::size_t i = 0; i < bits.size() * 7; ++i) {
      const std::uint32_t x = r.bits();
      if (i % 7 == 0) CHECK(x == bits[i / 7].get<std::uint32_t>());
    }
    for (const auto& [n, want] : goldens().at("shuffles").items()) {
      std::vector<int> order(std::stoul(n));
      for (std::size_t i = 0; i < order.size(); ++i) order[i] = int(i);
      python_random(21).shuffle(order);
      if (order.size() > 11) order.erase(order.begin() + 20, order.end() - 5);
      CHECK(order == want.get<std::vector<int>>());
    }
    std::vector<int> order(214354);
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = int(i);
    python_random(21).shuffle(order);
    order.resize(16);
    CHECK(order == goldens().at("shuffle_of_vqa_v2").get<std::vector<int>>());
  }
  TEST_CASE("texts are normalised as Python does it") {
    for (const json& c : goldens().at("texts")) {
      const auto text = c.at("text").get<std::string>();
      INFO(c.dump());
      CHECK(without_punctuation(text) == c.at("punctuation").get<std::string>());
      CHECK(vqa_prediction(text, contractions()) == c.at("vqa").get<std::string>());
      CHECK(vqa_prediction(text, vizwiz_contractions()) == c.at("vizwiz").get<std::string>());
      CHECK(text_vqa_answer(text) == c.at("text_vqa").get<std::string>());
      CHECK(gqa_prediction(text) == c.at("gqa").get<std::string>());
    }
    CHECK(json(contractions()) == goldens().at("contractions"));
    CHECK(json(vizwiz_contractions()) == goldens().at("vizwiz_contractions"));
  }
  TEST_CASE("normalisation, by hand") {
    const auto& table = contractions();
    CHECK(vqa_prediction("The Dog.", table) == "dog");
    CHECK(vqa_prediction("dont\n", table) == "don't");
    CHECK(vqa_prediction("two", table) == "2");
    CHECK(vqa_prediction("red/white", table) == "red white");
    CHECK(vqa_prediction("red / white", table) == "red white");
    CHECK(vqa_prediction("1,000", table) == "1000");
    CHECK(vqa_prediction("a,b", table) == "b");  // "a b", and the article goes
    CHECK(vqa_prediction("3.5", table) == "3.5");
    CHECK(without_punctuation(std::string(40, '.')) == std::string(8, '.'));
    CHECK(without_punctuation("A dog!") == "A dog ");
    CHECK(text_vqa_answer("Bob's, 3?") == "bob 's 3");
    CHECK(vqa_prediction("won`t", vizwiz_contractions()) == "won t");
    CHECK(vqa_prediction("wont", vizwiz_contractions()) == "won`t");  // can't match
    CHECK(vqa_prediction("cant", vizwiz_contractions()) == "can't");
    CHECK(gqa_prediction("T-Shirt.") == "tshirt");
  }
  TEST_CASE("soft accuracy") {
    for (const json& c : goldens().at("soft")) {
      const auto annotators = c.at("annotators").get<std::vector<std::string>>();
      CHECK(soft_accuracy("x", annotators) == doctest::Approx(c.at("x").get<double>()));
      CHECK(soft_accuracy("y", annotators) == doctest::Approx(c.at("y").get<double>()));
    }
    CHECK(soft_accuracy("x", ten("x", 1, "y")) == doctest::Approx(0.3));
    CHECK(soft_accuracy("x", ten("x", 2, "y")) == doctest::Approx(0.6));
    CHECK(soft_accuracy("x", ten("x", 3, "y")) == doctest::Approx(0.9));
    CHECK(soft_accuracy("x", ten("x", 4, "y")) == doctest::Approx(1));
    CHECK(soft_accuracy("x", {}) == 0);
  }
  TEST_CASE("boxes are Python lists of four numbers, or none") {
    for (const json& c : goldens().at("boxes")) {
      INFO(c.dump());
      const auto b = parse_box(c.at("text").get<std::string>());
      REQUIRE(b.has_value() == !c.at("box").is_null());
      if (b) CHECK(*b == c.at("box").get<box>());
    }
    for (const json& c : goldens().at("rounded"))
      if (c[0] > 0.0)
        CHECK(normalised_box({0, 0, c[0].get<double>(), 1}, 640, 480, "test")[2] ==
              c[1].get<double>());
    CHECK_THROWS_WITH_AS(normalised_box({3, 0, 3, 1}, 640, 480, "test"),
                         doctest::Contains("640 x 480"), io_error);
    CHECK_THROWS_AS(normalised_box({0, 0, 641, 1}, 640, 480, "test"), io_error);
    CHECK(intersection_over_union({0, 0, 0.5, 0.5}, {0.25, 0, 0.75, 0.5}) ==
          doctest::Approx(1. / 3));
    CHECK(intersection_over_union({0, 0, 0.5, 0.5}, {0, 0, 0.5, 0.5}) == 1);
    CHECK(intersection_over_union({0, 0, 0.2, 0.2}, {0.5, 0.5, 1, 1}) == 0);
  }
  TEST_CASE("areas under curves are scikit-learn's") {
    for (const json& c : goldens().at("curves")) {
      const auto truth = c.at("truth").get<std::vector<int>>();
      const auto p = c.at("probabilities").get<std::vector<std::vector<double>>>();
      if (p[0].size() == 2) {
        std::vector<bool> positive, given;
        std::vector<double> first;
        for (std::size_t i = 0; i < truth.size(); ++i) {
          positive.push_back(truth[i] == 0), first.push_back(p[i][0]);
          given.push_back(p[i][0] > 0.5);
        }
        CHECK(*auc_roc(positive, first) == doctest::Approx(c.at("roc").get<double>()));
        CHECK(*average_precision(positive, first) == doctest::Approx(c.at("ap").get<double>()));
        CHECK(f1_score(positive, given) == doctest::Approx(c.at("f1").get<double>()));
      } else {
        CHECK(*auc_roc(truth, p) == doctest::Approx(c.at("roc").get<double>()));
        CHECK(*average_precision(truth, p) == doctest::Approx(c.at("ap").get<double>()));
      }
    }
    CHECK(*auc_roc({true, false, true}, std::vector<double>{3, 2, 1}) == 0.5);
    CHECK(*auc_roc({true, false}, std::vector<double>{1, 1}) == 0.5);
    CHECK_FALSE(auc_roc({true, true}, std::vector<double>{1, 2}).has_value());
    CHECK_FALSE(average_precision({false}, std::vector<double>{1}).has_value());
    CHECK_FALSE(auc_roc(std::vector<int>{2, 2}, {{1, 2, 3}, {1, 2, 3}}).has_value());
    CHECK(f1_score({false}, {false}) == 0);
  }
  TEST_CASE("VQAv2: annotators' answers get the punctuation step only") {
    dataset s;
    s.judged = metric::vqa;
    s.questions = {asked("yes/no", ten("yes", 10, ""), "is the"),
                   asked("other", ten("The cat", 10, ""), "what"),  // never matches "cat"
                   asked("other", ten("red-white", 3, "red"), "what")};
    const std::vector<answer> a{said("Yes."), said("the cat"), said("red white")};
    const report r = score(s, a);
    CHECK(r.score[0] == 1);
    CHECK(r.score[1] == 0);
    CHECK(r.score[2] == doctest::Approx(0.9));
    CHECK(value(r, "accuracy") == doctest::Approx(1.9 / 3));
    CHECK(r.measures[0].name == "accuracy");
    CHECK(value(r, "accuracy yes/no") == 1);
    CHECK(value(r, "accuracy other") == doctest::Approx(0.45));
    CHECK(value(r, "accuracy of what") == doctest::Approx(0.45));
    CHECK(number(r, "accuracy of what") == 2);
  }
  TEST_CASE("TextVQA: both sides are normalised") {
    dataset s;
    s.judged = metric::text_vqa;
    s.questions = {asked("", ten("The Cat", 4, "dog")), asked("", ten("Bob's", 10, ""))};
    const std::vector<answer> a{said("cat"), said("bob's")};
    CHECK(value(score(s, a), "accuracy") == 1);
  }
  TEST_CASE("VizWiz: annotators' answers are taken as they are; unanswerable is found or not") {
    dataset s;
    s.judged = metric::vizwiz;
    s.questions = {asked("answerable", ten("dog", 10, "")), asked("answerable", ten("Dog", 10, "")),
                   asked("unanswerable", ten("unanswerable", 10, "")),
                   asked("unanswerable", ten("unsuitable", 10, ""))};
    const std::vector<answer> a{said("dog"), said("dog"), said("Unanswerable."),
                                said("unanswerable")};
    const report r = score(s, a);
    CHECK(value(r, "accuracy") == 0.5);
    CHECK(value(r, "accuracy answerable") == 0.5);
    CHECK(value(r, "accuracy unanswerable") == 0.5);
    CHECK(value(r, "unanswerable AP") == 1);
    CHECK(value(r, "unanswerable F1") == 1);
    const json& h = goldens().at("hard");
    dataset t;
    t.judged = metric::vizwiz;
    std::vector<answer> b;
    for (std::size_t i = 0; i < h.at("truth").size(); ++i) {
      t.questions.push_back(
          asked(h.at("truth")[i] == 1 ? "unanswerable" : "answerable", ten("x", 10, "")));
      b.push_back(said(h.at("given")[i] == 1 ? "Unanswerable" : "a dog"));
    }
    CHECK(value(score(t, b), "unanswerable AP") == doctest::Approx(h.at("ap").get<double>()));
    CHECK(value(score(t, b), "unanswerable F1") == doctest::Approx(h.at("f1").get<double>()));
  }
  TEST_CASE("GQA: open and binary questions") {
    dataset s;
    s.judged = metric::gqa;
    s.questions = {asked("query", {"dog"}, "obj"), asked("verify", {"yes"}, "attr"),
                   asked("logical", {"no"}, "attr")};
    const std::vector<answer> a{said("A dog"), said("Yes."), said("no")};
    const report r = score(s, a);
    CHECK(value(r, "accuracy") == doctest::Approx(2. / 3));
    CHECK(value(r, "accuracy open") == 0);
    CHECK(value(r, "accuracy binary") == 1);
    CHECK(value(r, "accuracy logical") == 1);
    CHECK(value(r, "accuracy attr") == 1);
  }
  TEST_CASE("POPE: the mean of its parts' accuracies, Yes is positive") {
    dataset s;
    s.id = "pope-full";
    s.judged = metric::choice;
    s.choices = {"Yes", "No"};
    s.groups = {"adversarial", "popular", "random"};
    s.questions = {chosen("random", 0), chosen("random", 1), chosen("random", 1),
                   chosen("popular", 0), chosen("adversarial", 1)};
    const std::vector<answer> a{finds({0.9, 0.1}), finds({0.2, 0.8}), finds({0.6, 0.4}),
                                finds({0.3, 0.7}), finds({0.5, 0.5})};
    const report r = score(s, a);
    CHECK(value(r, "accuracy random") == doctest::Approx(2. / 3));
    CHECK(value(r, "accuracy popular") == 0);
    CHECK(value(r, "accuracy adversarial") == 0);  // of equal ones the first is taken: Yes
    CHECK(value(r, "accuracy") == doctest::Approx(2. / 9));
    CHECK(value(r, "AUC-ROC random") == 1);
    CHECK(value(r, "AUC-PR random") == 1);
    CHECK(value(r, "AUC-ROC popular") == -1);  // one class only
    CHECK(value(r, "AUC-ROC") == doctest::Approx((3 + 1) / 6.));
    s.id = "vsr-full";
    CHECK(value(score(s, a), "accuracy") == doctest::Approx(2. / 5));
    CHECK(score(s, {}).measures.empty());
  }
  TEST_CASE("many choices") {
    dataset s;
    s.id = "ai2d-full";
    s.judged = metric::choice;
    s.choices = {"A", "B", "C", "D"};
    s.groups = {"val", "test"};
    s.questions = {chosen("val", 3), chosen("val", 0), chosen("test", 1)};
    const std::vector<answer> a{finds({0.1, 0.2, 0.3, 0.4}), finds({0.1, 0.2, 0.3, 0.4}),
                                finds({0, 1, 0, 0})};
    const report r = score(s, a);
    CHECK(value(r, "accuracy") == doctest::Approx(2. / 3));
    CHECK(value(r, "accuracy val") == 0.5);
    CHECK(value(r, "AUC-ROC val") == 0.5);
    CHECK(value(r, "AUC-PR test") == 1);
  }
  TEST_CASE("boxes: half of the union, a quarter for OCID-Ref") {
    dataset s;
    s.id = "refcoco-full";
    s.judged = metric::overlap;
    s.groups = {"RefCOCO", "RefCOCO+"};
    for (const char* g : {"RefCOCO", "RefCOCO", "RefCOCO+"}) {
      question q;
      q.group = g, q.where = {0, 0, 0.5, 0.5};
      s.questions.push_back(q);
    }
    const std::vector<answer> a{said("[0, 0, 0.5, 0.5]"), said("[0.25, 0, 0.75, 0.5]"),
                                said("at the left")};
    const report r = score(s, a);
    CHECK(value(r, "accuracy") == doctest::Approx(1. / 3));
    CHECK(value(r, "accuracy RefCOCO") == 0.5);
    CHECK(value(r, "accuracy RefCOCO+") == 0);
    CHECK(value(r, "no box in the answer") == doctest::Approx(1. / 3));
    s.id = "ocid-ref-slim";
    CHECK(value(score(s, a), "accuracy") == doctest::Approx(2. / 3));
  }
  TEST_CASE("a report as a table and as JSON") {
    dataset s;
    s.id = "vsr-full";
    s.judged = metric::choice;
    s.choices = {"True", "False"};
    s.questions = {chosen("", 0)};
    s.questions[0].id = "7";
    s.questions[0].answers = {"True"};
    const std::vector<answer> a{finds({0.75, 0.25})};
    const report r = score(s, a);
    CHECK(to_table(r) ==
          "measure   questions   percent\n"
          "accuracy          1    100.00\n"
          "AUC-ROC           1         -\n"
          "AUC-PR            1    100.00\n");
    const auto j = to_json(s, a, r, "small");
    CHECK(j.at("dataset") == "vsr-full");
    CHECK(j.at("n_examples") == 1);
    CHECK(j.at("model") == "small");
    CHECK(j.at("summary").at("accuracy") == 1.0);
    CHECK(j.at("summary").at("AUC-ROC").is_null());
    CHECK(j.at("examples")[0].at("id") == "7");
    CHECK(j.at("examples")[0].at("probabilities")[1] == 0.25);
    CHECK(j.at("examples")[0].at("truth")[0] == "True");
    CHECK(j.at("examples")[0].at("score") == 1.0);
  }
}
