// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What the roles of ssd_role_kernel share: memory, turns, where a block is, copies of chunks.
#pragma once

#include "mlmamba/backend/cuda/ssd_state_parts.cuh"
#include "mlmamba/backend/cuda/tensor_copy.cuh"

namespace mlmamba::backend::kernels {

struct ssd_y {};     ///< y of a whole sequence
struct ssd_both {};  ///< ends of segments, then y: a segment waits for the ends of those before it

/// Groups of four warps that write y, chunk by chunk in turn; of the two others one has the state,
/// one asks for copies.
inline constexpr int ssd_writers = 2;
inline constexpr int ssd_role_threads = (2 + ssd_writers) * 128;

/// B and C of a chunk are soon done with; x, z and tokens stay until its y is written, which takes
/// the place of z. A block's chunks take turns.
template <class V>
struct ssd_role_memory {
  static constexpr int turns = 3, later = 3 + ssd_writers;
  alignas(1024) V B[turns][2 * operand_tile], C[turns][2 * operand_tile], S[2][2 * operand_tile];
  alignas(1024) V x[later][operand_tile], z[later][operand_tile];
  alignas(16) ssd_tokens tokens[later];
  float D[ssd_tile], weight[ssd_tile];
  copy_barrier filled[later];   ///< a chunk is there
  copy_barrier done[turns];     ///< its B and C are done with
  copy_barrier entered[2];      ///< S that enters a chunk is there
  copy_barrier multiplied[2];   ///< and is done with
  copy_barrier written[later];  ///< y is, so that x, z and tokens are done with
};

/// The plan, and where the operands of chunks are.
template <class E>
struct ssd_role_plan {
  static constexpr const char* name = ops::ssd<E>::name;
  ssd_plan<E> plan;
  CUtensorMap x, B, C, z, y;
};

#if defined(MLMAMBA_WARPGROUPS)

/// What the parts of a block know. A block has a head, 64 rows p and one segment of the sequence.
template <class E>
struct ssd_role_place {
  index_t b, g, h, segment, begin, end;
  int p0, columns, states, chunks;

  __device__ explicit ssd_role_place(const ssd_plan<E>& plan) : b(blockIdx.x) {
    const ops::ssd<E>& op = plan.op;
    const int width = int(op.x.size[3]);
    const index_t p_tile = take_index(b, (width + ssd_tile - 1) / ssd_tile);
    h = take_index(b, op.x.size[2]), segment = take_index(b, plan.chunks);
    g = h / (op.x.size[2] / op.B.size[2]);
    p0 = int(p_tile) * ssd_tile, columns = width - p0 < ssd_tile ? width - p0 : ssd_tile;
    states = int(op.B.size[3]);
    begin = segment * plan.chunk, end = begin + plan.chunk;
    if (end > op.x.size[1]) end = op.x.size[1];
    chunks = int((end - begin + ssd_tile - 1) / ssd_tile);
  }
  /// Does this block compute the state that its segment leaves before it begins with y?
  template <class Work>
  __device__ bool ends(const ssd_plan<E>& plan) const {
    return std::is_same_v<Work, ssd_both> && segment + 1 < plan.chunks;
  }
};

/// By one thread: asks for chunk c of the segment, in turn `u`; only what states want, unless
/// `with_y`.
template <class Gated, class E>
__device__ __forceinline__ void ssd_role_copy(const ssd_role_plan<E>& all,
                                              const ssd_role_place<E>& at,
                                              ssd_role_memory<typename E::value>& s, int c, int u,
                                              bool with_y) {
  using memory = ssd_role_memory<typename E::value>;
  constexpr unsigned tile = operand_tile * 2;
  const ssd_plan<E>& plan = all.plan;
  const int near = u % memory::turns, later = u % memory::later;
  const index_t heads = plan.op.x.size[2], size = ssd_tokens_size(plan.op),
                chunks = (plan.op.x.size[1] + ssd_tile - 1) / ssd_tile,
                chunk = at.begin / ssd_tile + c;
  const int t = int(chunk) * ssd_tile, b = int(at.b), g = int(at.g), h = int(at.h);
  copy_barrier& filled = s.filled[later];
  expect_copies(filled, (with_y ? (Gated::value ? 6 : 5) : 3) * tile + unsigned(size) * 4);
  copy_tile_in(s.B[near], all.B, 0, g, t, b, filled);
  copy_tile_in(s.B[near] + operand_tile, all.B, 64, g, t, b, filled);
  copy_tile_in(s.x[later], all.x, at.p0, h, t, b, filled);
  copy_bulk(&s.tokens[later], plan.tokens + ((at.b * chunks + chunk) * heads + at.h) * size,
            unsigned(size) * 4, filled);
  if (!with_y) return;
  copy_tile_in(s.C[near], all.C, 0, g, t, b, filled);
  copy_tile_in(s.C[near] + operand_tile, all.C, 64, g, t, b, filled);
  if constexpr (Gated::value) copy_tile_in(s.z[later], all.z, at.p0, h, t, b, filled);
}

/// One thread: asks for all chunks, as soon as there is room.
template <class Work, class Gated, class E>
__device__ void ssd_role_copies(const ssd_role_plan<E>& all, const ssd_role_place<E>& at,
                                ssd_role_memory<typename E::value>& s) {
  using memory = ssd_role_memory<typename E::value>;
  const int first = at.template ends<Work>(all.plan) ? at.chunks : 0;
  for (int u = 0; u < first + at.chunks; ++u) {
    if (const int last = u - memory::turns; last >= 0)
      wait_for_copies(s.done[u % memory::turns], last / memory::turns & 1);
    if (const int c = u - first - memory::later; c >= 0)
      wait_for_copies(s.written[u % memory::later], c / memory::later & 1);
    const bool with_y = u >= first;
    ssd_role_copy<Gated>(all, at, s, with_y ? u - first : u, u, with_y);
  }
}

#endif

}  // namespace mlmamba::backend::kernels
