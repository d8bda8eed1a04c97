// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Training on a GPU: what the reference learns in double, the same bits each time, also in pieces.
#include "engines.hpp"
#include "io/temporary.hpp"
#include "mlmamba/train/saved_run.hpp"
#include "train/two_towers.hpp"

using namespace mlmamba;
using namespace mlmamba::train;

namespace {

template <engine E>
using towers_trainer = trainer<test::two_towers<E>, next_token_gradients>;

/// Losses and gradient norms of some updates.
template <engine E>
std::vector<double> record(test::two_towers<E>& m, int updates) {
  context_of<E> ctx;
  towers_trainer<E> t(ctx, m, {}, test::quick_training());
  std::vector<double> out;
  for (int u = 0; u < updates; ++u) {
    const auto r = t.update(test::two_towers_batch(std::uint64_t(u % 2)));
    out.push_back(r.loss), out.push_back(r.gradient_norm);
  }
  return out;
}

}  // namespace

TEST_CASE_TEMPLATE(
    "device: backend::cuda learns what the reference learns, with the same bits twice", E, cuda_f32,
    cuda_bf16) {
  auto one = test::small_two_towers<E>(), two = test::small_two_towers<E>();
  auto plain = test::small_two_towers<exact>();
  const auto got = record<E>(one, 12), again = record<E>(two, 12);
  const auto want = record<exact>(plain, 12);
  CHECK(got == again);
  CHECK((test::bits_of(one) == test::bits_of(two)));
  const double limit = std::is_same_v<E, cuda_f32> ? 1e-3 : 0.1;
  for (std::size_t i = 0; i < want.size(); ++i) {
    INFO((i % 2 ? "norm" : "loss"), " of update ", i / 2);
    CHECK(got[i] == doctest::Approx(want[i]).epsilon(i < 2 ? limit / 10 : limit));
  }
  const double first = got[0], last = got[got.size() - 2], exactly = want[want.size() - 2];
  MESSAGE("loss ", first, " -> ", last, ", reference ", exactly);
  CHECK(last < 0.9 * first);
}

TEST_CASE_TEMPLATE(
    "device: a run on backend::cuda that is cut ends with the bits of one that is not", E, cuda_f32,
    cuda_bf16) {
  const test::temporary_folder folder;
  context_of<E> ctx;
  auto whole = test::small_two_towers<E>();
  trainer_options o = test::quick_training();
  o.rate.steps = 6;
  const auto batch = [](index_t u) { return test::two_towers_batch(std::uint64_t(u % 3)); };
  towers_trainer<E> t(ctx, whole, {}, o);
  index_t u = 0;
  t.run([&] { return batch(u++); });
  o.folder = folder / "run";
  for (int piece = 0; piece < 4; ++piece) {
    auto m = test::small_two_towers<E>(piece == 0 ? 4 : 9);  // overwritten by resume
    towers_trainer<E> p(ctx, m, {}, o);
    CHECK(p.resume() == (piece > 0));
    index_t at = p.state().updates, done = 0;
    p.run([&] { return batch(at++); }, {}, [&] { return ++done == 2; });
    if (piece >= 2) CHECK((test::bits_of(m) == test::bits_of(whole)));
  }
}
