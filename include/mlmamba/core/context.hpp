// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Contexts (a place to run) and the whole dispatch: overloads of execute() on context<tag>.
#pragma once

#include "mlmamba/core/arena.hpp"
#include "mlmamba/core/threads.hpp"

namespace mlmamba {

/// A place to run: scratch memory, and what the backend needs. A tag made with
/// backend::extends<parent> inherits its parent's context, and with it every op of the parent.
template <class Backend>
struct context : context<typename Backend::parent> {
  using context<typename Backend::parent>::context;
};

template <class Memory>
struct scratch_space {
  arena<Memory> scratch;

  /// Do ops return before they are done?
  static constexpr bool asynchronous = false;
  /// What `replay` keeps of a piece of work. A copy is empty: it will be of other memory.
  struct recording {};
  /// Does `work`: ops only, the same ones on the same memory whenever it is given with this
  /// recording. A backend that can records them and later plays them without the calls. Returns
  /// whether `work` was called.
  template <class F>
  bool replay(recording&, F&& work) {
    work();
    return true;
  }

  template <engine E, int R>
  out<E, R> make(shape<R> n) {
    return scratch.template make<typename E::value, R>(n);
  }
  template <engine E, int R>
  out_accum<E, R> make_accum(shape<R> n) {
    return scratch.template make<typename E::accum, R>(n);
  }
};

template <>
struct context<backend::reference> : scratch_space<memory::host> {};

struct cpu_options {
  int threads = 0;  ///< 0: as many as the machine has
};

template <class Isa>
struct context<backend::cpu_for<Isa>> : scratch_space<memory::host> {
  context() : context(cpu_options{}) {}
  explicit context(cpu_options o) : threads(o.threads) {}

  thread_pool threads;

  template <class F>
  void parallel_for(index_t n, F&& f) {
    threads.parallel_for(n, f);
  }
};

template <>
struct context<backend::cuda>;  // defined in <mlmamba/cuda.cuh>

template <engine E>
using context_of = context<typename E::backend>;

template <class Backend, class Op>
concept implements = requires(context<Backend>& ctx, const Op& op) {
  execute(ctx, op);
};

/// Checks an op's contract and runs it. An object, so that argument-dependent lookup never finds
/// it.
struct run_fn {
  template <class Backend, class Op>
  void operator()(context<Backend>& ctx, const Op& op) const {
    static_assert(implements<Backend, Op>,
                  "this backend does not implement this op for this element type (for CUDA: "
                  "include <mlmamba/cuda.cuh> and compile with nvcc)");
    if constexpr (implements<Backend, Op>) {
      op.check();
      execute(ctx, op);
    }
  }
};
inline constexpr run_fn run{};

}  // namespace mlmamba
