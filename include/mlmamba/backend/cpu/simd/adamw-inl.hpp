// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The AdamW kernel.

HWY_BEFORE_NAMESPACE();
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {

template <class W>
void adamw(const adamw_constants<accum_t<W>>& c, W* weight, accum_t<W>* master,
           const accum_t<W>* grad, accum_t<W>* m, accum_t<W>* v, index_t n) {
  const tag_for<W> d;
  const auto scale = hn::Set(d, c.grad_scale);
  const auto beta1 = hn::Set(d, c.beta1), rest1 = hn::Set(d, c.rest1);
  const auto beta2 = hn::Set(d, c.beta2), rest2 = hn::Set(d, c.rest2);
  const auto correction1 = hn::Set(d, c.correction1), correction2 = hn::Set(d, c.correction2);
  const auto epsilon = hn::Set(d, c.epsilon), rate = hn::Set(d, c.learning_rate);
  const auto decay = hn::Set(d, c.weight_decay);
  for_each_vector(d, n, [&](auto part, index_t i) HWY_ATTR {
    const auto g = hn::Mul(part.load(d, grad + i), scale);
    const auto m1 = hn::MulAdd(beta1, part.load(d, m + i), hn::Mul(rest1, g));
    const auto v1 = hn::MulAdd(beta2, part.load(d, v + i), hn::Mul(hn::Mul(rest2, g), g));
    part.store(m1, d, m + i);
    part.store(v1, d, v + i);
    const auto root = hn::Add(hn::Sqrt(hn::Div(v1, correction2)), epsilon);
    const auto step = hn::Div(hn::Div(m1, correction1), root);
    auto w = master ? part.load(d, master + i) : part.load(d, weight + i);
    w = hn::NegMulAdd(rate, hn::MulAdd(decay, w, step), w);
    if (master) part.store(w, d, master + i);
    part.store(w, d, weight + i);
  });
}

template <class W>
adamw_entries<W> kernels_for(wanted<adamw_entries<W>>) {
  return {&adamw<W>};
}

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();
