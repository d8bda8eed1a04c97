// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Recomputation gives the bits of keeping everything, in less memory.
#include "mlmamba/nn/checkpointed.hpp"

#include <doctest/doctest.h>

#include <cstring>

#include "mlmamba/backend/reference.hpp"
#include "mlmamba/models/mamba_lm.hpp"
#include "mlmamba/verify/gradcheck.hpp"

using namespace mlmamba;

namespace {
using E = reference_f32;

template <class M>
std::string grads_of(const M& m) {
  std::string all;
  nn::for_each_parameter(m, [&](const std::string&, const auto& p) {
    all.append(reinterpret_cast<const char*>(p.grad.data()), p.grad.bytes());
  });
  return all;
}
template <class T, int R>
std::string bytes_of(const view<T, R>& v) {
  return {reinterpret_cast<const char*>(v.data), std::size_t(v.count()) * sizeof(T)};
}
mamba_config small() {
  mamba_config c;
  c.mixer.d_model = 8;
  c.mixer.headdim = 4;
  c.mixer.d_state = 3;
  c.n_layer = 3;
  c.vocab_size = 11;
  c.d_intermediate = 12;
  return c;
}
/// By engine alone, so that the check can put it on another one.
template <engine E>
struct checkpointed_mixer : nn::checkpointed<nn::mamba2<E>> {
  using nn::checkpointed<nn::mamba2<E>>::checkpointed;
};
}  // namespace

TEST_SUITE("checkpointed_test") {
  TEST_CASE("the gradient is exact") {
    const auto g = verify::gradcheck<checkpointed_mixer<exact>>({2, 5, 8}, small().mixer);
    INFO("worst at ", g.where, ": ", g.worst);
    CHECK(g.worst < 1e-12);
    CHECK(g.checked > 400);
  }
  TEST_CASE("a mixer in a wrapper: same names, outputs and gradients") {
    nn::mamba2<E> plain(small().mixer);
    nn::checkpointed<nn::mamba2<E>> wrapped(small().mixer);
    nn::initialise(plain, {5, 0, 0});
    nn::initialise(wrapped, {5, 0, 0});
    nn::allocate_grads(plain);
    nn::allocate_grads(wrapped);
    std::vector<std::string> a, b;
    nn::for_each_parameter(plain, [&](const std::string& n, const auto&) { a.push_back(n); });
    nn::for_each_parameter(wrapped, [&](const std::string& n, const auto&) { b.push_back(n); });
    CHECK(a == b);
    context_of<E> ctx;
    tensor_of<E, 3> x({2, 5, 8});
    random_stream r{1, 0, 0};
    for (index_t i = 0; i < x.count(); ++i) x.data()[i] = float(r.normal());
    auto run_both = [&](auto& m) {
      auto frame = ctx.scratch.make_frame();
      typename std::remove_cvref_t<decltype(m)>::saved s;
      const auto y = m.forward(ctx, x, s);
      const std::string out = bytes_of(y);
      return out + bytes_of(m.backward(ctx, y, s));
    };
    CHECK((run_both(plain) == run_both(wrapped)));
    CHECK((grads_of(plain) == grads_of(wrapped)));
  }
  TEST_CASE("a language model that runs its blocks again: same bits, less memory") {
    tensor<std::int32_t, 2> ids({2, 40});
    for (index_t i = 0; i < ids.count(); ++i) ids.data()[i] = std::int32_t(i * 7 % 11);
    auto trained = [&](bool recompute, std::string& bits) {
      context_of<E> ctx;
      mamba_lm<E> m(small());
      nn::initialise(m, {5, 0, 0});
      nn::allocate_grads(m);
      m.recompute = recompute;
      mamba_lm<E>::saved s;
      const auto y = m.forward(ctx, m.embed(ctx, ids, s), s);
      bits = bytes_of(y);
      m.embed_backward(ctx, m.backward(ctx, y, s), s);
      bits += grads_of(m);
      return ctx.scratch.peak();
    };
    std::string kept, again;
    const std::size_t most = trained(false, kept), least = trained(true, again);
    CHECK(kept.size() > 1000);
    CHECK((kept == again));
    CHECK(double(least) < 0.75 * double(most));
  }
}
