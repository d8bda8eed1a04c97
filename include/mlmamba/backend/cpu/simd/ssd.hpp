// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Entries of the table for SSD: each works on one head (or chunk) of one row of the batch.
#pragma once

#include "mlmamba/core/engine.hpp"

namespace mlmamba::backend::simd {

/// How a sequence is cut: the same for all heads. Sizes with a bar are padded to ssd_entries::unit.
struct ssd_plan {
  index_t length, states, channels, chunk;  // chunk: most tokens in a chunk
  index_t states_, channels_, chunk_;       // padded
  index_t panel;                            // channels of a state that lie together
  bool both;                                // B and C are shared in both layouts: the backward
  index_t chunks() const { return (length + chunk - 1) / chunk; }
  index_t first(index_t c) const { return c * chunk; }
  index_t tokens(index_t c) const {
    return length - c * chunk < chunk ? length - c * chunk : chunk;
  }
  /// What a group shares (see ssd_shared), and the sums of its gradients: one block per chunk.
  index_t shared_size() const { return (both ? 4 : 2) * states_ * chunk_ + chunk_ * chunk_; }
  index_t grad_size() const { return 2 * states_ * chunk_ + chunk_ * chunk_; }
};

/// A block of what a group shares: C B^T, (chunk_, chunk_), and B and C in panels of
/// ssd_entries::unit states (of all tokens) or of as many tokens (of all states).
template <class A>
struct ssd_shared {
  A *B, *C, *CB;                                   // B by state, C by token
  A *B_by_token = nullptr, *C_by_state = nullptr;  // if ssd_plan::both
  ssd_shared(const ssd_plan& p, A* at) : B(at), C(B + p.states_ * p.chunk_) {
    CB = C + p.states_ * p.chunk_;
    if (p.both) B_by_token = CB + p.chunk_ * p.chunk_, C_by_state = B_by_token + (C - B);
  }
};

/// Rows of a matrix: unit stride along a row.
template <class T>
struct strided {
  T* at = nullptr;
  index_t row = 0;
  T* operator[](index_t i) const { return at + i * row; }
};

/// What one head of one row of the batch reads and writes, by token (or by channel: the states).
template <class T>
struct ssd_head {
  using A = accum_t<T>;
  strided<const T> x, z;  // z.at null: no gate
  const T* dt = nullptr;
  index_t dt_row = 0;
  A rate = 0, dt_bias = 0, dt_min = 0, dt_max = 0;
  bool softplus = false;
  const A* D = nullptr;  // null: no skip
  index_t D_stride = 0;
  strided<const A> initial;  // at null: zeros
  /// The token at which the sequence of token t starts, -1: before this call. Null: all -1.
  const index_t* starts = nullptr;
};

template <class T>
struct ssd_forward_task {
  using A = accum_t<T>;
  ssd_plan plan;
  ssd_head<T> head;
  strided<const T> B, C;      // used by `sequential`
  const A* shared = nullptr;  // used by `forward`
  strided<T> y;
  strided<A> last;  // at null: not wanted
  A* scratch = nullptr;
};

/// One head of one row. What belongs to B and C is added to the sums of its block of heads.
template <class T>
struct ssd_backward_task {
  using A = accum_t<T>;
  ssd_plan plan;
  ssd_head<T> head;
  const A* shared = nullptr;
  strided<const T> dy;
  strided<const A> dlast;
  strided<T> dx, dz;
  T* ddt = nullptr;
  index_t ddt_row = 0;
  strided<A> dinitial;
  A* sums = nullptr;         // dA, ddt_bias, then dD (channels): of this head and row
  A* shared_grad = nullptr;  // per chunk: dB, dC as (states_, chunk_), dCB; overwritten if first
  bool first = false;
  A* scratch = nullptr;
};

template <class T>
struct ssd_entries {
  using A = accum_t<T>;
  index_t unit;                                        // sizes are padded to this
  index_t chunk;                                       // tokens of a chunk if nobody says
  index_t (*scratch)(const ssd_plan&, index_t heads);  // of `forward`, `sequential` with one
  index_t (*share_scratch)(const ssd_plan&);
  /// Fills the shared block of chunk c.
  void (*share)(const ssd_plan&, index_t c, strided<const T> B, strided<const T> C, A* shared,
                A* scratch);
  /// Heads of one group and row; the plan and the scratch of the first task are used.
  void (*forward)(const ssd_forward_task<T>* tasks, index_t heads);
  void (*sequential)(const ssd_forward_task<T>&);
};
template <class T>
struct ssd_backward_entries {
  using A = accum_t<T>;
  // The forward may lay out shared blocks otherwise: the backward fills its own.
  index_t unit;
  index_t (*share_scratch)(const ssd_plan&);
  void (*share)(const ssd_plan&, index_t c, strided<const T> B, strided<const T> C, A* shared,
                A* scratch);
  index_t (*scratch)(const ssd_plan&);
  void (*backward)(const ssd_backward_task<T>&);
  /// dB and dC of chunk c from `parts` blocks of sums, `part_stride` apart, added in order.
  void (*finish)(const ssd_plan&, index_t c, const A* shared, const A* grads, index_t parts,
                 index_t part_stride, strided<T> dB, strided<T> dC, A* scratch);
};
template <class T, class State = accum_t<T>>
struct ssd_step_entries {
  using A = accum_t<T>;
  index_t unit;  // as above
  /// One token: state (channels, states) in place; x, z, y (channels).
  void (*step)(const ssd_plan&, const ssd_head<T>&, const T* B, const T* C, T* y,
               strided<State> state, A* scratch);
};

}  // namespace mlmamba::backend::simd
