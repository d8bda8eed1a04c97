// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Every op of the header-only library, and a model with its training, for a user's warnings: it is
// compiled, not run.
#include <mlmamba/mlmamba.hpp>
#include <mlmamba/train/loss.hpp>
#include <mlmamba/train/optimizer.hpp>
#include <mlmamba/verify/gradcheck.hpp>

using namespace mlmamba;
using namespace mlmamba::ops;

template <class... Ops>
void run_all(auto& ctx) {
  (run(ctx, Ops{}), ...);
}

template <engine E>
void every_op(context_of<E>& ctx) {
  run_all<adamw<E>, attention<E>, attention_backward<E>, causal_conv1d<E>,
          causal_conv1d_backward<E>, causal_conv1d_step<E>, cross_entropy<E>,
          cross_entropy_backward<E>, copy<E, float, float, 2>, add<E>, activate<E>,
          activate_backward<E>, gated<E>, gated_backward<E>, channel_scale<E>,
          channel_scale_backward<E>, add_position<E>, add_position_backward<E>, negative_exp<E>,
          negative_exp_backward<E>, fill<E>, embedding<E>, embedding_backward<E>, gemm<E>,
          adaptive_pool<E>, adaptive_pool_backward<E>, pixel_shuffle<E>, depthwise_conv2d<E>,
          depthwise_conv2d_backward<E>, rms_norm<E>, rms_norm_backward<E>, layer_norm<E>,
          layer_norm_backward<E>, gated_rms_norm<E>, gated_rms_norm_backward<E>, patchify<E>,
          patchify_backward<E>, sum_rows<E>, sum_squares<E>, argmax<E>, sample<E>, scan_order<E>,
          selective_scan<E>, selective_scan_backward<E>, selective_scan_step<E>, ssd<E>,
          ssd_backward<E>, ssd_step<E>>(ctx);
}

int main() {
  context<backend::cpu> cpu;
  context<backend::reference> reference;
  every_op<cpu_f32>(cpu);
  every_op<cpu_bf16>(cpu);
  every_op<exact>(reference);
  run_all<packed_gemm<cpu_packed>, packed_gemm<cpu_packed_bf16>>(cpu);

  mamba_lm<cpu_f32> model{mamba_config{}};
  train::optimizer<cpu_f32> optimizer(model, {});
  (void)optimizer.update(cpu, model, 1e-3);
  auto state = model.make_state(1);
  tensor<std::int32_t, 2> ids({1, 1});
  (void)model.prefill(cpu, model.embed(cpu, ids), state);
}
