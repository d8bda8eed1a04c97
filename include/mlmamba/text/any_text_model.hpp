// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A text model of a structure that is chosen while a program runs: what makes text of it (generate,
// conversation) is compiled once for all of them.
#pragma once

#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "mlmamba/models/state_rows.hpp"
#include "mlmamba/nn/functional.hpp"
#include "mlmamba/text/text_model.hpp"

namespace mlmamba {

/// Any text model that runs where E does, on its activations or on bf16 where these are float; how
/// it holds its weights is its own affair. It computes what the model in it does, to the bit: a
/// call through a pointer per prompt and per step, none per layer. Activations in bf16 go through
/// float between two calls, which holds them exactly.
///
///   any_text_model<cpu_f32> model(files.load<mamba_lm<on<backend::cpu, float, float, bf16>>>());
///   generate(ctx, model, words, "Once");
///
/// It is a text model that sees (text_model.hpp), whether the one in it does or not, and no module:
/// it has no parameters to list. It can be moved, not copied.
///
/// Errors    shape_error for a state of another model; error for a picture if it can't see
template <engine E>
class any_text_model {
  struct any_state {
    virtual ~any_state() = default;
    virtual std::unique_ptr<any_state> copy() const = 0;
    virtual std::unique_ptr<any_state> gather(std::span<const index_t> at) const = 0;
    virtual std::unique_ptr<any_state> join(std::span<const any_state* const> all) const = 0;
  };

 public:
  using engine_type = E;

  /// A value, as every state.
  class state {
    using inner_type = any_state;  // friends below may name it, not the other

   public:
    index_t position = 0;  // tokens read, those of a picture included

    state() = default;
    state(state&&) = default;
    state& operator=(state&&) = default;
    state(const state& s) : position(s.position), inner_(s.inner_ ? s.inner_->copy() : nullptr) {}
    state& operator=(const state& s) { return *this = state(s); }

    friend state gather_rows(const state& from, std::span<const index_t> at) {
      return state(from.position, from.inner_->gather(at));
    }
    friend state join_rows(std::span<const state> states) {
      if (states.empty()) fail<shape_error>("join_rows: no states; at least one is wanted");
      std::vector<const inner_type*> all;
      for (const state& s : states) all.push_back(s.inner_.get());
      return state(states[0].position, states[0].inner_->join(all));
    }

   private:
    friend any_text_model;
    state(index_t p, std::unique_ptr<any_state> s) : position(p), inner_(std::move(s)) {}
    std::unique_ptr<any_state> inner_;
  };

  template <text_model M>
  requires(!std::is_same_v<M, any_text_model> &&
           std::is_same_v<context_of<typename M::engine_type>, context_of<E>> &&
           (std::is_same_v<typename M::engine_type::value, typename E::value> ||
            (std::is_same_v<typename M::engine_type::value, bf16> &&
             std::is_same_v<typename E::value, float>)) &&
           std::is_same_v<typename M::engine_type::accum,
                          typename E::accum>) explicit any_text_model(M model)
      : model_(std::make_unique<holder<M>>(std::move(model))) {}

  index_t vocabulary() const { return model_->vocabulary(); }
  state make_state(index_t rows) const { return state(0, model_->make_state(rows)); }
  out<E, 3> embed(context_of<E>& ctx, in_index<E, 2> ids) const { return model_->embed(ctx, ids); }
  out<E, 3> features(context_of<E>& ctx, std::span<const in<E, 4>> pictures) const {
    return model_->features(ctx, pictures);
  }
  out<E, 3> tokens(context_of<E>& ctx, in<E, 3> features) const {
    return model_->tokens(ctx, features);
  }
  out_accum<E, 2> prefill(context_of<E>& ctx, in<E, 3> x, state& s) const {
    return model_->prefill(ctx, x, s);
  }
  out_accum<E, 2> step(context_of<E>& ctx, in_index<E, 1> ids, state& s) const {
    return model_->step(ctx, ids, s);
  }

 private:
  struct any {
    virtual ~any() = default;
    virtual index_t vocabulary() const = 0;
    virtual std::unique_ptr<any_state> make_state(index_t rows) const = 0;
    virtual out<E, 3> embed(context_of<E>&, in_index<E, 2> ids) const = 0;
    virtual out<E, 3> features(context_of<E>&, std::span<const in<E, 4>>) const = 0;
    virtual out<E, 3> tokens(context_of<E>&, in<E, 3>) const = 0;
    virtual out_accum<E, 2> prefill(context_of<E>&, in<E, 3>, state&) const = 0;
    virtual out_accum<E, 2> step(context_of<E>&, in_index<E, 1>, state&) const = 0;
  };

  template <class S>
  struct held_state final : any_state {
    S s;
    explicit held_state(S x) : s(std::move(x)) {}
    std::unique_ptr<any_state> copy() const override { return std::make_unique<held_state>(s); }
    std::unique_ptr<any_state> gather(std::span<const index_t> at) const override {
      return std::make_unique<held_state>(gather_rows(s, at));
    }
    std::unique_ptr<any_state> join(std::span<const any_state* const> all) const override {
      std::vector<const S*> states;
      for (const any_state* one : all) states.push_back(&held_state::in(one).s);
      return std::make_unique<held_state>(join_rows(std::span<const S* const>(states)));
    }
    template <class Any>
    static auto& in(Any* one) {
      using T = std::conditional_t<std::is_const_v<Any>, const held_state, held_state>;
      T* held = dynamic_cast<T*>(one);
      if (held == nullptr)
        fail<shape_error>("any_text_model: a state of another model; one of its own is wanted");
      return *held;
    }
  };

  template <class M>
  struct holder final : any {
    using S = typename M::state;
    using V = typename M::engine_type::value;
    M m;
    explicit holder(M model) : m(std::move(model)) {}

    index_t vocabulary() const override { return m.vocabulary(); }
    std::unique_ptr<any_state> make_state(index_t rows) const override {
      return std::make_unique<held_state<S>>(m.make_state(rows));
    }
    out<E, 3> embed(context_of<E>& ctx, in_index<E, 2> ids) const override {
      return as<typename E::value>(ctx, m.embed(ctx, ids));
    }
    out<E, 3> features(context_of<E>& ctx, std::span<const in<E, 4>> pictures) const override {
      if constexpr (seeing_text_model<M>) {
        std::vector<in<typename M::engine_type, 4>> own;
        for (const in<E, 4>& p : pictures) own.push_back(as<V>(ctx, p));
        return as<typename E::value>(ctx, m.features(ctx, std::span(std::as_const(own))));
      } else {
        blind();
      }
    }
    out<E, 3> tokens(context_of<E>& ctx, in<E, 3> features) const override {
      if constexpr (seeing_text_model<M>) {
        return as<typename E::value>(ctx, m.tokens(ctx, as<V>(ctx, features)));
      } else {
        blind();
      }
    }
    out_accum<E, 2> prefill(context_of<E>& ctx, in<E, 3> x, state& s) const override {
      return with(s, [&](S& inner) { return m.prefill(ctx, as<V>(ctx, x), inner); });
    }
    out_accum<E, 2> step(context_of<E>& ctx, in_index<E, 1> ids, state& s) const override {
      return with(s, [&](S& inner) { return m.step(ctx, ids, inner); });
    }

   private:
    /// x itself if it is of type T.
    template <class T, class X>
    static auto as(context_of<E>& ctx, X x) {
      if constexpr (std::is_same_v<typename X::value_type, T>) {
        return x;
      } else {
        return nn::to<T>(ctx, x);
      }
    }
    [[noreturn]] static void blind() { detail::fail_blind(); }
    /// A step that a context plays again counts the outer position alone, so that is the true one.
    template <class F>
    static out_accum<E, 2> with(state& s, F&& f) {
      S& inner = held_state<S>::in(s.inner_.get()).s;
      if constexpr (requires { inner.position; }) {
        inner.position = s.position;
        const auto y = f(inner);
        s.position = inner.position;
        return y;
      } else {
        return f(inner);
      }
    }
  };

  std::unique_ptr<const any> model_;
};

}  // namespace mlmamba
