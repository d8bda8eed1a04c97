// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The end of the SSD backward: gradients of what the heads of a group share.

HWY_BEFORE_NAMESPACE();
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {

/// dB and dC of a chunk: the sums over blocks of heads, and what C B^T passes on.
template <class T>
void finish_ssd_backward(const ssd_plan& p, index_t c, const accum_t<T>* shared_at,
                         const accum_t<T>* grads, index_t parts, index_t part_stride, strided<T> dB,
                         strided<T> dC, accum_t<T>* scratch) {
  using A = accum_t<T>;
  using chunks = ssd_chunks<T>;
  const tag_for<T> d;
  const index_t q = p.tokens(c), rows = chunks::padded(q), block = p.states_ * p.chunk_;
  const index_t step = lanes(d), t0 = p.first(c);
  const ssd_shared<const A> shared(p, shared_at);
  bump<A> b{scratch};
  A *sum = b.take(p.grad_size()), *dCBt = b.take(p.chunk_ * p.chunk_), *by_row = b.take(block);
  const index_t lines = 2 * p.states_ + rows;  // dB, dC, dCB: rows of chunk_
  for (index_t i = 0; i < lines; ++i)
    for (index_t j = 0; j < rows; j += step) {
      const A* from = grads + i * p.chunk_ + j;
      auto v = hn::LoadU(d, from);
      for (index_t k = 1; k < parts; ++k) v = hn::Add(v, hn::LoadU(d, from + k * part_stride));
      hn::StoreU(v, d, sum + i * p.chunk_ + j);
    }
  A *dBt = sum, *dCt = dBt + block, *dCB = dCt + block;
  transpose(dCB, p.chunk_, rows, rows, dCBt, p.chunk_);
  multiply(d, p.states, rows, chunks::states_by_tokens(p, shared.C_by_state, dCB, p.chunk_, q), dBt,
           p.chunk_, A(1));
  multiply(d, p.states, rows, chunks::states_by_tokens(p, shared.B, dCBt, p.chunk_, q), dCt,
           p.chunk_, A(1));
  transpose(dBt, p.chunk_, p.states_, rows, by_row, p.states_);
  store_rows(d, by_row, p.states_, q, p.states, dB[t0], dB.row);
  transpose(dCt, p.chunk_, p.states_, rows, by_row, p.states_);
  store_rows(d, by_row, p.states_, q, p.states, dC[t0], dC.row);
}

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();
