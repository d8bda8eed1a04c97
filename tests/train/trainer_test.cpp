// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The training loop on the smallest model: learning, accumulation, checkpoints, refusals.
#include "mlmamba/train/trainer.hpp"

#include <doctest/doctest.h>

#include <cstring>

#include "io/temporary.hpp"
#include "train/bigram.hpp"

using namespace mlmamba;
using namespace mlmamba::train;
using test::bigram;

namespace {
using E = reference_f32;
using bigram_trainer = trainer<bigram<E>, test::bigram_gradients>;

bigram<E> fresh(std::uint64_t seed = 3) {
  bigram<E> m(7);
  nn::initialise(m, {seed, 0, 0});
  return m;
}
update_batch batch_of(index_t u, index_t parts = 2) {
  update_batch b;
  for (index_t p = 0; p < parts; ++p)
    b.parts.push_back(test::chains(3, 8, 7, std::uint64_t(10 * u + p)));
  b.text_tokens = 24 * parts;
  return b;
}
trainer_options quick(index_t steps) {
  trainer_options o;
  o.rate = {.peak = 0.1, .steps = steps, .warmup = 5};
  o.show = false;
  return o;
}
template <class M>
bool same_bits(const M& a, const M& b) {
  bool same = true;
  std::vector<std::string> bytes;
  nn::for_each_parameter(a, [&](const std::string&, const auto& p) {
    bytes.emplace_back(reinterpret_cast<const char*>(p.value.data()), p.value.bytes());
  });
  std::size_t i = 0;
  nn::for_each_parameter(b, [&](const std::string&, const auto& p) {
    same = same && std::memcmp(bytes[i].data(), p.value.data(), bytes[i].size()) == 0;
    ++i;
  });
  return same;
}
}  // namespace

TEST_SUITE("trainer_test") {
  TEST_CASE("a rule without exceptions is learned to almost no loss") {
    context_of<E> ctx;
    bigram<E> m = fresh();
    trainer_options o = quick(300);
    o.optimizer.weight_decay = 0;
    bigram_trainer t(ctx, m, {}, o);
    const double first = t.update(batch_of(0)).loss;
    CHECK(first == doctest::Approx(std::log(7.0)).epsilon(0.1));
    index_t u = 1;
    t.run([&] { return batch_of(u++); });
    CHECK(t.finished());
    CHECK(t.state().text_tokens == 300 * 48);
    const auto last = test::bigram_gradients{}(ctx, m, test::chains(3, 8, 7, 99), 0.0);
    CHECK(last / double(test::chains(3, 8, 7, 99).labelled()) < 0.01);
  }
  TEST_CASE("micro-batches add up to the whole batch") {
    // By tokens: 2 micro-batches of 3 rows equal one of 6, to the rounding of float sums.
    update_batch cut = batch_of(0), whole;
    whole.text_tokens = cut.text_tokens;
    micro_batch all;
    all.ids = tensor<std::int32_t, 2>({6, 8});
    all.labels = tensor<std::int32_t, 2>({6, 8});
    for (index_t i = 0; i < 48; ++i) {
      const micro_batch& from = cut.parts[std::size_t(i / 24)];
      all.ids.data()[i] = from.ids.data()[i % 24];
      all.labels.data()[i] = from.labels.data()[i % 24];
    }
    whole.parts.push_back(std::move(all));
    context_of<E> ctx;
    bigram<E> a = fresh(), b = fresh();
    bigram_trainer ta(ctx, a, {}, quick(10)), tb(ctx, b, {}, quick(10));
    const update_record ra = ta.update(cut), rb = tb.update(whole);
    CHECK(ra.labelled == rb.labelled);
    CHECK(ra.loss == doctest::Approx(rb.loss).epsilon(1e-6));
    CHECK(ra.gradient_norm == doctest::Approx(rb.gradient_norm).epsilon(1e-5));
    // 49 sums of at most 36 terms of at most 1/36 each.
    for (index_t i = 0; i < 49; ++i)
      CHECK(std::fabs(a.table.grad.data()[i] - b.table.grad.data()[i]) < 36 * 6e-8f);
  }
  TEST_CASE("mean of means weighs micro-batches alike, tokens weigh tokens") {
    update_batch b;
    b.parts.push_back(test::chains(1, 8, 7, 1));
    b.parts.push_back(test::chains(3, 8, 7, 2));
    context_of<E> ctx;
    const auto loss = [&](normalisation n) {
      bigram<E> m = fresh();
      trainer_options o = quick(5);
      o.normalisation = n;
      bigram_trainer t(ctx, m, {}, o);
      return t.update(b).loss;
    };
    bigram<E> m = fresh();
    const double n0 = double(b.parts[0].labelled()), n1 = double(b.parts[1].labelled());
    const double s0 = test::bigram_gradients{}(ctx, m, b.parts[0], 1);
    const double s1 = test::bigram_gradients{}(ctx, m, b.parts[1], 1);
    CHECK(n0 != n1);
    CHECK(loss(normalisation::tokens) == doctest::Approx((s0 + s1) / (n0 + n1)).epsilon(1e-12));
    CHECK(loss(normalisation::mean_of_means) ==
          doctest::Approx((s0 / n0 + s1 / n1) / 2).epsilon(1e-12));
  }
  TEST_CASE("a run that is cut into pieces ends with the bits of one that is not") {
    const test::temporary_folder folder;
    context_of<E> ctx;
    bigram<E> whole = fresh();
    bigram_trainer t(ctx, whole, {}, quick(20));
    index_t u = 0;
    t.run([&] { return batch_of(u++); });

    trainer_options o = quick(20);
    o.folder = folder / "run";
    o.checkpoint_every = 3;
    bigram<E> last(7);
    for (int piece = 0; piece < 10; ++piece) {
      bigram<E> m = fresh(piece == 0 ? 3 : 100 + std::uint64_t(piece));  // overwritten by resume
      bigram_trainer p(ctx, m, {}, o);
      CHECK(p.resume() == (piece > 0));
      if (p.finished()) break;
      index_t at = p.state().updates, done = 0;
      p.run([&] { return batch_of(at++); }, {}, [&] { return ++done == 4; });
      last = m;
    }
    CHECK(same_bits(last, whole));
    // 20 lines of updates, each once.
    std::ifstream lines(o.folder / "metrics.jsonl");
    index_t n = 0;
    for (std::string line; std::getline(lines, line);) CHECK(json::parse(line).at("step") == ++n);
    CHECK(n == 20);
    CHECK(saved_run(o.folder / "checkpoints").steps() == std::vector<index_t>{18, 20});
  }
  TEST_CASE("a time budget ends a run early, with a checkpoint") {
    const test::temporary_folder folder;
    context_of<E> ctx;
    bigram<E> m = fresh();
    trainer_options o = quick(100000000);
    o.folder = folder / "run";
    o.minutes = 0.05 / 60;
    bigram_trainer t(ctx, m, {}, o);
    t.run([&] { return batch_of(0); });
    CHECK_FALSE(t.finished());
    CHECK(t.state().updates > 0);
    CHECK(saved_run(o.folder / "checkpoints").steps() == std::vector<index_t>{t.state().updates});
  }
  TEST_CASE("evaluations are called and recorded") {
    const test::temporary_folder folder;
    context_of<E> ctx;
    bigram<E> m = fresh();
    trainer_options o = quick(6);
    o.folder = folder / "run";
    o.evaluate_every = 2;
    bigram_trainer t(ctx, m, {}, o);
    t.run([&] { return batch_of(0); }, [](index_t step) { return json{{"right", step * 10}}; });
    const std::string text = test::slurp(o.folder / "metrics.jsonl");
    CHECK(text.find(R"({"right":40,"step":4})") != std::string::npos);
  }
  TEST_CASE("another run's checkpoint, damage and empty batches are refused") {
    const test::temporary_folder folder;
    context_of<E> ctx;
    bigram<E> m = fresh();
    trainer_options o = quick(6);
    o.folder = folder / "run";
    o.config = {{"seed", 1}, {"batch", 6}};
    {
      bigram_trainer t(ctx, m, {}, o);
      t.run([&] { return batch_of(0); });
    }
    const bigram<E> before = m;
    const auto resumed = [&](const trainer_options& with) {
      bigram_trainer t(ctx, m, {}, with);
      return t.resume();
    };
    CHECK(resumed(o));
    trainer_options other = o;
    other.config["seed"] = 2;
    CHECK_THROWS_WITH_AS(resumed(other), doctest::Contains("\"/seed\" 1, now it is 2"), io_error);
    bigram<E> larger(8);
    bigram_trainer wrong(ctx, larger, {}, o);
    CHECK_THROWS_AS(wrong.resume(), io_error);

    const auto place = o.folder / "checkpoints" / "step-00000006";
    const std::string moments = test::slurp(place / "optimizer.safetensors");
    test::spill(place / "optimizer.safetensors",
                std::string_view(moments).substr(0, moments.size() - 4));
    CHECK_THROWS_AS(resumed(o), io_error);
    test::spill(place / "optimizer.safetensors", moments);
    test::spill(place / "state.json", "{}");
    CHECK_THROWS_AS(resumed(o), io_error);

    update_batch nothing = batch_of(0, 1);
    std::fill_n(nothing.parts[0].labels.data(), nothing.parts[0].labels.count(), ignored);
    bigram_trainer t(ctx, m, {}, quick(6));
    CHECK_THROWS_AS(t.update(nothing), error);
  }
}
