// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Whole language models on the CPU: equal to the reference, and the same bits with any number of
// threads and with any neighbours in the batch.
#include "engines.hpp"
#include "mlmamba/mlmamba.hpp"
#include "mlmamba/models/mamba_lm.hpp"
#include "mlmamba/models/state_rows.hpp"
#include "mlmamba/nn/mamba1.hpp"
#include "mlmamba/verify/op_case.hpp"

using namespace mlmamba;

namespace {
mamba_config sizes(bool second) {
  mamba_config c;
  c.mixer.d_model = 48;
  c.mixer.d_state = 16;
  c.mixer.headdim = 16;
  c.mixer.ngroups = second ? 2 : 1;
  c.n_layer = 2;
  c.vocab_size = 61;
  c.d_intermediate = 40;
  return c;
}
tensor<std::int32_t, 2> some_ids(index_t batch, index_t length) {
  tensor<std::int32_t, 2> ids({batch, length});
  for (index_t i = 0; i < ids.count(); ++i) ids.data()[i] = std::int32_t(i * i * 7 % 61);
  return ids;
}
template <class V>
void keep(std::vector<verify::array>& all, const char* name, const V& v) {
  verify::array a{name, {}};
  const auto host = to_host(v);
  for (index_t i = 0; i < host.count(); ++i) a.values.push_back(double(host.data()[i]));
  all.push_back(std::move(a));
}
/// Parameters of any engine: the numbers of bf16, so that all engines start from equal ones.
template <class Model>
Model made(const mamba_config& c, weight_format format = {weight_scheme::bf16}) {
  Model m(c);
  nn::choose_formats(m, {format, {}});
  nn::initialise(m, {6, 0, 0});
  nn::for_each_parameter(m, [](const std::string&, auto& p) {
    const auto round = [&](auto& all) {
      for (index_t i = 0; i < all.count(); ++i) {
        auto& x = all.data()[i];
        x = typename std::remove_cvref_t<decltype(p)>::value_type(float(bf16(float(x))));
      }
    };
    if constexpr (nn::packed_field<decltype(p)>) {
      auto values = p.value.unpacked();
      round(values);
      nn::set_value(p, values);
    } else {
      round(p.value);
    }
  });
  nn::prepare(m, {format, {}});
  return m;
}
/// Everything a model computes: logits, gradients (with `Trained`), logits of a prefill in two
/// parts and of steps.
template <bool Trained, class Model>
std::vector<verify::array> everything(context_of<typename Model::engine_type>& ctx,
                                      const mamba_config& c) {
  using E = typename Model::engine_type;
  Model m = made<Model>(c);
  if constexpr (Trained) nn::allocate_grads(m);
  std::vector<verify::array> all;
  const auto ids = some_ids(3, 21);
  {
    auto frame = ctx.scratch.make_frame();
    typename Model::saved s;
    const auto y = m.forward(ctx, m.embed(ctx, ids, s), s);
    keep(all, "logits", y);
    if constexpr (Trained) {
      const auto dy = ctx.template make<E, 3>(y.shape());
      random_stream r{1, 0, 0};
      for (index_t i = 0; i < dy.count(); ++i)
        dy.data[i] = typename E::value(float(bf16(float(r.normal()))));
      const auto dx = m.backward(ctx, dy, s);
      keep(all, "dembedded", dx);
      m.embed_backward(ctx, dx, s);
      nn::for_each_parameter(m, [&](const std::string& name, const auto& p) {
        keep(all, name.c_str(), p.grad.view());
      });
    }
  }
  auto frame = ctx.scratch.make_frame();
  auto state = m.make_state(3);
  tensor<std::int32_t, 1> next({3});
  const auto e = m.embed(ctx, ids);
  m.prefill(ctx, in<E, 3>(e).slice(1, 0, 8), state);
  keep(all, "prefill", m.prefill(ctx, in<E, 3>(e).slice(1, 8, 13), state));
  for (int t = 0; t < 3; ++t) keep(all, "step", m.step(ctx, in_index<E, 1>(next.view()), state));
  nn::for_each_leaf(state, [&](const std::string& name, const auto& leaf) {
    keep(all, name.c_str(), leaf.view());
  });
  return all;
}
/// Two layers of about ten roundings each, forward and again backward, adding as a random walk.
template <class E>
double allowed() {
  return std::sqrt(40.0) * verify::tolerance<E>(120);
}
void check_same(const std::vector<verify::array>& a, const std::vector<verify::array>& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t k = 0; k < a.size(); ++k) CHECK_MESSAGE(a[k].values == b[k].values, a[k].name);
}
template <template <class> class Mixer, class E>
void check_model() {
  using model = mamba_lm<E, Mixer>;
  const mamba_config c = sizes(std::is_same_v<Mixer<E>, nn::mamba2<E>>);
  context_of<E> one{cpu_options{.threads = 1}}, two{cpu_options{.threads = 2}},
      three{cpu_options{.threads = 3}};
  constexpr bool trained = !packs_weights<E>;
  const auto all = everything<trained, model>(one, c);
  check_same(all, everything<trained, model>(two, c));
  check_same(all, everything<trained, model>(three, c));
  context_of<exact> plain;
  const auto want = everything<trained, mamba_lm<exact, Mixer>>(plain, c);
  for (std::size_t k = 0; k < all.size(); ++k) {
    const auto d = verify::compare_arrays({all[k]}, {want[k]}, allowed<E>());
    CHECK_MESSAGE(d.ok, d.where, "; off by ", d.relative, ", allowed is ", d.tolerance);
  }
}
template <template <class> class Mixer, class E>
void check_rows(weight_format format = {weight_scheme::bf16}) {
  using model = mamba_lm<E, Mixer>;
  const model m = made<model>(sizes(std::is_same_v<Mixer<E>, nn::mamba2<E>>), format);
  context_of<E> ctx;
  const index_t v = m.vocabulary();
  for (const index_t batch : {2, 5}) {
    const auto ids = some_ids(batch, 19);
    auto frame = ctx.scratch.make_frame();
    auto state = m.make_state(batch);
    std::vector<verify::array> whole;
    keep(whole, "prefill", m.prefill(ctx, m.embed(ctx, ids), state));
    tensor<std::int32_t, 1> next({batch});
    for (index_t b = 0; b < batch; ++b) next(b) = std::int32_t(b);
    keep(whole, "step", m.step(ctx, in_index<E, 1>(next.view()), state));
    for (index_t b = 0; b < batch; ++b) {
      tensor<std::int32_t, 2> row({1, 19});
      for (index_t t = 0; t < 19; ++t) row(0, t) = ids(b, t);
      auto alone = m.make_state(1);
      std::vector<verify::array> single;
      keep(single, "prefill", m.prefill(ctx, m.embed(ctx, row), alone));
      keep(single, "step", m.step(ctx, in_index<E, 1>(next.view()).slice(0, b, 1), alone));
      for (std::size_t k = 0; k < 2; ++k) {
        const auto at = whole[k].values.begin() + b * v;
        CHECK_MESSAGE(std::equal(at, at + v, single[k].values.begin()), whole[k].name, " of row ",
                      b, " of ", batch);
      }
    }
  }
}
}  // namespace

TEST_SUITE("independence_test") {
  TEST_CASE_TEMPLATE("Mamba-2: the reference's numbers; the same bits with 1, 2, 3 threads", E,
                     cpu_f32, cpu_bf16, cpu_f64, cpu_packed, cpu_packed_bf16) {
    check_model<nn::mamba2, E>();
  }
  TEST_CASE_TEMPLATE("Mamba-1: the reference's numbers; the same bits with 1, 2, 3 threads", E,
                     cpu_f32, cpu_bf16, cpu_packed, cpu_packed_bf16) {
    check_model<nn::mamba1, E>();
  }
  TEST_CASE_TEMPLATE("a row of a batch has the bits it has alone", E, cpu_f32, cpu_bf16) {
    check_rows<nn::mamba2, E>();
    check_rows<nn::mamba1, E>();
  }
  TEST_CASE_TEMPLATE("and so with prepared weights", E, cpu_packed, cpu_packed_bf16) {
    for (const weight_format& f :
         {weight_format{weight_scheme::f32}, weight_format{weight_scheme::bf16},
          weight_format{weight_scheme::int8, 16}, weight_format{weight_scheme::int4, 16}}) {
      INFO(to_string(f.scheme));
      check_rows<nn::mamba2, E>(f);
      check_rows<nn::mamba1, E>(f);
    }
  }
}
