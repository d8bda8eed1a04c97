// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What text can be generated from: models, prompts, and how a model reads a prompt.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mlmamba/io/image_transform.hpp"
#include "mlmamba/nn/module.hpp"

namespace mlmamba {

/// What text comes from: a language model, or a multimodal one.
template <class M>
concept text_model = requires(const M& m, context_of<typename M::engine_type>& ctx,
                              in_index<typename M::engine_type, 2> ids,
                              in_index<typename M::engine_type, 1> row,
                              in<typename M::engine_type, 3> x, typename M::state& st) {
  { m.vocabulary() } -> std::same_as<index_t>;
  { m.make_state(index_t{}) } -> std::same_as<typename M::state>;
  { m.embed(ctx, ids) } -> std::same_as<out<typename M::engine_type, 3>>;
  { m.prefill(ctx, x, st) } -> std::same_as<out_accum<typename M::engine_type, 2>>;
  { m.step(ctx, row, st) } -> std::same_as<out_accum<typename M::engine_type, 2>>;
};

/// A text model that also takes pictures, one array of pixels per vision tower.
template <class M>
concept seeing_text_model = text_model<M> &&
    requires(const M& m, context_of<typename M::engine_type>& ctx,
             std::span<const in<typename M::engine_type, 4>> pictures) {
  { m.tokens(ctx, m.features(ctx, pictures)) } -> std::same_as<out<typename M::engine_type, 3>>;
};

/// What a model is asked. The picture comes before the text.
struct prompt {
  std::vector<tensor<float, 4>> pixels{};  // (B, 3, S, S) per tower, see pixels_of; or none
  std::string text{};
};

/// A picture as the towers of a model take it, by their rules: (1, 3, S, S) each.
inline std::vector<tensor<float, 4>> pixels_of(const image& picture,
                                               std::span<const image_transform> towers) {
  std::vector<tensor<float, 4>> all;
  for (const image_transform& t : towers) {
    tensor<float, 4> x({1, 3, t.size, t.size});
    t.write(picture, std::span<float>(x.data(), std::size_t(x.count())));
    all.push_back(std::move(x));
  }
  return all;
}

namespace detail {

template <engine E>
in_index<E, 2> ids_on(context_of<E>& ctx, std::span<const std::int32_t> ids, index_t rows) {
  const auto to = ctx.scratch.template make<std::int32_t, 2>(
      shape<2>{{rows, rows > 0 ? index_t(ids.size()) / rows : 0}});
  from_host(to, view<const std::int32_t, 2>(ids.data(), to.shape()));
  return to;
}

/// Logits on the host, row by row.
template <class V>
std::vector<float> host_logits(const V& logits) {
  const auto host = to_host(logits);
  std::vector<float> all(std::size_t(host.count()));
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = float(host.data()[i]);
  return all;
}

[[noreturn]] inline void fail_blind() {
  fail<error>("generate: a prompt with a picture for a model that can't see; text is wanted");
}

/// Has the state read the pictures of a prompt, one per row of the state.
template <text_model Model>
void read_pictures(context_of<typename Model::engine_type>& ctx, const Model& model,
                   const std::vector<tensor<float, 4>>& pixels, index_t rows,
                   typename Model::state& state) {
  using E = typename Model::engine_type;
  if (pixels.empty()) return;
  if constexpr (seeing_text_model<Model>) {
    auto frame = ctx.scratch.make_frame();
    std::vector<in<E, 4>> views;
    for (const tensor<float, 4>& x : pixels) {
      if (x.size(0) != rows)
        fail<shape_error>("generate: ", x.size(0), " pictures for ", rows,
                          " prompts; one for each is wanted");
      tensor<typename E::value, 4> host(x.shape());
      for (index_t i = 0; i < x.count(); ++i)
        host.data()[i] = typename E::value(real_t<typename E::value>(x.data()[i]));
      const out<E, 4> there = ctx.template make<E, 4>(x.shape());
      from_host(there, std::as_const(host).view());
      views.push_back(there);
    }
    model.prefill(ctx, model.tokens(ctx, model.features(ctx, std::span<const in<E, 4>>(views))),
                  state);
  } else {
    fail_blind();
  }
}

/// Can the model read these rows of ids? Errors: error for ids that it has no embedding for,
/// shape_error if there are none.
template <text_model Model>
void check_ids(const Model& model, std::span<const std::int32_t> ids, index_t rows) {
  for (const std::int32_t id : ids)
    if (id < 0 || id >= model.vocabulary())
      fail<error>("generate: the prompt has token ", id, "; the model knows 0 to ",
                  model.vocabulary() - 1, " (is this its tokenizer?)");
  if (rows == 0 || index_t(ids.size()) < rows)
    fail<shape_error>("generate: the prompt is empty; at least one token is wanted");
}

/// Has the state read equally long rows of ids; the logits after the last. Errors: of check_ids.
template <text_model Model>
std::vector<float> read_ids(context_of<typename Model::engine_type>& ctx, const Model& model,
                            std::span<const std::int32_t> ids, index_t rows, index_t part,
                            typename Model::state& state) {
  using E = typename Model::engine_type;
  check_ids(model, ids, rows);
  const index_t length = index_t(ids.size()) / rows;
  std::vector<float> logits;
  std::vector<std::int32_t> some;
  for (index_t at = 0; at < length; at += part) {
    const index_t n = std::min(part, length - at);
    some.clear();
    for (index_t r = 0; r < rows; ++r) {
      const auto from = ids.begin() + (r * length + at);
      some.insert(some.end(), from, from + n);
    }
    auto frame = ctx.scratch.make_frame();
    const auto y = model.prefill(ctx, model.embed(ctx, ids_on<E>(ctx, some, rows)), state);
    if (at + n == length) logits = host_logits(y);
  }
  return logits;
}

}  // namespace detail

}  // namespace mlmamba
