// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Offsets beyond 32 bits, and sequences of 100,000 tokens, on a GPU.
#undef MLMAMBA_POISON  // would fill gigabytes again and again
#include "backend/cuda_numbers.hpp"
#include "engines.hpp"
#include "mlmamba/nn/functional.hpp"
#include "ops/causal_conv1d_cases.hpp"
#include "ops/engine_checks.hpp"
#include "ops/selective_scan_cases.hpp"
#include "ops/ssd_cases.hpp"

using namespace mlmamba;
using namespace mlmamba::verify;

namespace {

/// An array of two rows that lie more than 2^31 elements apart, and one whose rows lie together.
template <class T, int R>
struct far_array {
  tensor<T, R, memory::device> together;
  view<T, R, memory::device> far;
  view<T, R, memory::device> operator()(bool near) { return near ? together.view() : far; }
};

/// Where the rows of such arrays are.
template <class T>
class far_rows {
 public:
  /// (2, ...): the same random numbers in both places.
  template <int R>
  far_array<T, R> make(context<backend::cuda>& ctx, shape<R> n) {
    far_array<T, R> a{numbers<T, R>(n, std::uint64_t(++made_)), {}};
    shape<R> stride{};
    index_t size = 1;
    for (int i = R - 1; i > 0; --i) stride.n[i] = size, size *= n.n[i];
    stride.n[0] = apart;
    a.far = {all_.data() + used_, n, stride};
    used_ += (size + 63) / 64 * 64;
    REQUIRE(used_ <= room);
    nn::assign(ctx, a.far, view<const T, R, memory::device>(a.together.view()));
    return a;
  }

 private:
  static constexpr index_t apart = (index_t{1} << 31) + 4096, room = 1 << 22;
  tensor<T, 1, memory::device> all_{shape<1>{{apart + room}}};
  index_t used_ = 0;
  int made_ = 0;
};

/// ||far - near|| / ||near||
template <class T, int R>
double off(context<backend::cuda>& ctx, const far_array<T, R>& a) {
  tensor<T, R, memory::device> copy(a.together.shape());
  nn::assign(ctx, copy.view(), view<const T, R, memory::device>(a.far));
  ctx.synchronize();
  const auto far = to_host(copy.view()), near = to_host(a.together.view());
  double error = 0, norm = 0;
  for (index_t i = 0; i < near.count(); ++i) {
    const double w = float(near.data()[i]), e = float(far.data()[i]) - w;
    error += e * e, norm += w * w;
  }
  return norm > 0 ? std::sqrt(error / norm) : 1;
}

}  // namespace

TEST_CASE_TEMPLATE("cuda: rows more than 2^31 elements apart", E, cuda_f32, cuda_bf16) {
  using V = typename E::value;
  context<backend::cuda> ctx;
  far_rows<V> values;
  far_rows<float> wide;
  // What is summed over rows that lie elsewhere may be summed in another order.
  const double bound = std::is_same_v<V, float> ? 1e-5 : 4e-3;
  const auto fine = [&](const auto&... arrays) {
    int which = 0;
    const auto check = [&](double d) {
      INFO("result ", which++);
      CHECK(d <= bound);
    };
    (check(off(ctx, arrays)), ...);
  };
  for (auto [P, N] : {std::pair<index_t, index_t>{64, 128}, {16, 32}}) {
    CAPTURE(N);
    const index_t L = 150, H = 2;
    auto x = values.make(ctx, shape<4>{{2, L, H, P}}), z = values.make(ctx, shape<4>{{2, L, H, P}});
    auto y = values.make(ctx, shape<4>{{2, L, H, P}}),
         dx = values.make(ctx, shape<4>{{2, L, H, P}});
    auto dz = values.make(ctx, shape<4>{{2, L, H, P}}),
         dy = values.make(ctx, shape<4>{{2, L, H, P}});
    auto B = values.make(ctx, shape<4>{{2, L, 1, N}}), C = values.make(ctx, shape<4>{{2, L, 1, N}});
    auto dB = values.make(ctx, shape<4>{{2, L, 1, N}}),
         dC = values.make(ctx, shape<4>{{2, L, 1, N}});
    auto dt = values.make(ctx, shape<3>{{2, L, 8}}), ddt = values.make(ctx, shape<3>{{2, L, 8}});
    auto state = wide.make(ctx, shape<4>{{2, H, P, N}}),
         last = wide.make(ctx, shape<4>{{2, H, P, N}});
    auto dfirst = wide.make(ctx, shape<4>{{2, H, P, N}});
    const auto rate = numbers<float, 1>({{H}}, 99);
    tensor<float, 1, memory::device> A({H}), dA({H});
    run(ctx, ops::negative_exp<E>{.x = rate, .y = A});
    for (bool near : {true, false}) {
      ops::ssd<E> op;
      const auto set = [&](ops::ssd_inputs<E>& in) {
        in.x = x(near), in.dt = dt(near).slice(2, 0, H), in.A = A, in.B = B(near), in.C = C(near);
        in.z = z(near), in.initial_states = state(near), in.dt_softplus = true;
      };
      set(op), op.y = y(near), op.final_states = last(near);
      run(ctx, op);
      ops::ssd_backward<E> back;
      set(back), back.dy = dy(near), back.dx = dx(near), back.ddt = ddt(near).slice(2, 0, H);
      back.dA = dA, back.dB = dB(near), back.dC = dC(near), back.dz = dz(near);
      back.dinitial_states = dfirst(near), back.dfinal_states = last(near);
      run(ctx, back);
    }
    fine(y, last, dx, dB, dC, dz, ddt, dfirst);
    for (bool near : {true, false})
      run(ctx, ops::ssd_step<E>{.state = state(near),
                                .x = x(near).select(1, 3),
                                .dt = dt(near).select(1, 3).slice(1, 0, H),
                                .A = A,
                                .B = B(near).select(1, 3),
                                .C = C(near).select(1, 3),
                                .z = z(near).select(1, 3),
                                .y = y(near).select(1, 5),
                                .dt_softplus = true});
    fine(state, y);
  }
  {  // selective scan, convolution: channels of one group
    const index_t L = 150, D = 64, N = 16;
    auto x = values.make(ctx, shape<3>{{2, L, D}}), dt = values.make(ctx, shape<3>{{2, L, D}});
    auto y = values.make(ctx, shape<3>{{2, L, D}}), dy = values.make(ctx, shape<3>{{2, L, D}});
    auto dx = values.make(ctx, shape<3>{{2, L, D}}), ddt = values.make(ctx, shape<3>{{2, L, D}});
    auto B = values.make(ctx, shape<4>{{2, L, 1, N}}), C = values.make(ctx, shape<4>{{2, L, 1, N}});
    auto dB = values.make(ctx, shape<4>{{2, L, 1, N}}),
         dC = values.make(ctx, shape<4>{{2, L, 1, N}});
    auto state = wide.make(ctx, shape<3>{{2, D, N}}), last = wide.make(ctx, shape<3>{{2, D, N}});
    const auto rate = numbers<float, 1>({{D * N}}, 99);
    tensor<float, 1, memory::device> A({D * N});
    run(ctx, ops::negative_exp<E>{.x = rate, .y = A});
    for (bool near : {true, false}) {
      const in_accum<E, 2> rates = in_accum<E, 1>(A.view()).split(0, N);
      run(ctx, ops::selective_scan<E>{.x = x(near),
                                      .dt = dt(near),
                                      .A = rates,
                                      .B = B(near),
                                      .C = C(near),
                                      .initial_states = state(near),
                                      .y = y(near),
                                      .final_states = last(near),
                                      .dt_softplus = true});
      run(ctx, ops::selective_scan_backward<E>{.x = x(near),
                                               .dt = dt(near),
                                               .A = rates,
                                               .B = B(near),
                                               .C = C(near),
                                               .initial_states = state(near),
                                               .dy = dy(near),
                                               .dx = dx(near),
                                               .ddt = ddt(near),
                                               .dB = dB(near),
                                               .dC = dC(near),
                                               .dt_softplus = true});
      run(ctx, ops::selective_scan_step<E>{.state = state(near),
                                           .x = x(near).select(1, 3),
                                           .dt = dt(near).select(1, 3),
                                           .A = rates,
                                           .B = B(near).select(1, 3),
                                           .C = C(near).select(1, 3),
                                           .y = y(near).select(1, 7),
                                           .dt_softplus = true});
    }
    fine(y, last, dx, ddt, dB, dC, state);
    auto window = values.make(ctx, shape<3>{{2, 3, D}});
    const auto weight = numbers<float, 2>({{D, 4}}, 98);
    tensor<float, 2, memory::device> dweight({D, 4});
    for (bool near : {true, false}) {
      run(ctx, ops::causal_conv1d<E>{.x = x(near),
                                     .weight = weight,
                                     .initial_states = window(near).transposed(1, 2),
                                     .y = y(near)});
      run(ctx,
          ops::causal_conv1d_backward<E>{
              .x = x(near), .weight = weight, .dy = dy(near), .dx = dx(near), .dweight = dweight});
      run(ctx, ops::causal_conv1d_step<E>{.x = x(near).select(1, 2),
                                          .state = window(near).transposed(1, 2),
                                          .weight = weight,
                                          .y = y(near).select(1, 9)});
    }
    fine(y, dx, window);
  }
  {  // rows: norms, gates, products, attention
    const index_t D = 256, K = 128;
    auto x = values.make(ctx, shape<2>{{2, D}}), z = values.make(ctx, shape<2>{{2, D}});
    auto rms = values.make(ctx, shape<2>{{2, D}}), layer = values.make(ctx, shape<2>{{2, D}});
    auto gated = values.make(ctx, shape<2>{{2, D}}), swiglu = values.make(ctx, shape<2>{{2, D}});
    auto product = values.make(ctx, shape<2>{{2, K}});
    auto q = values.make(ctx, shape<4>{{2, 70, 2, 64}}),
         k = values.make(ctx, shape<4>{{2, 70, 2, 64}});
    auto seen = values.make(ctx, shape<4>{{2, 70, 2, 64}});
    const auto weight = numbers<float, 1>({{D}}, 97);
    const auto w = numbers<typename E::weight, 2>({{K, D}}, 96);
    for (bool near : {true, false}) {
      run(ctx, ops::rms_norm<E>{.x = x(near), .weight = weight, .y = rms(near)});
      run(ctx, ops::layer_norm<E>{.x = x(near), .weight = weight, .y = layer(near)});
      run(ctx,
          ops::gated_rms_norm<E>{.x = x(near), .z = z(near), .weight = weight, .y = gated(near)});
      run(ctx, ops::gated<E>{.gate = x(near), .up = z(near), .y = swiglu(near)});
      run(ctx, ops::gemm<E>{.x = x(near), .w = w, .y = product(near)});
      run(ctx, ops::attention<E>{
                   .q = q(near), .k = k(near), .v = q(near), .y = seen(near), .scale = 0.125f});
    }
    fine(rms, layer, gated, swiglu, product, seen);
  }
}

TEST_CASE_TEMPLATE("cuda: 100,000 tokens", E, cuda_f32, cuda_bf16) {
  // Few channels and heads: the reference keeps all states.
  ssd_options narrow{.batch = 1,
                     .length = 100000,
                     .heads = 1,
                     .channels = 8,
                     .states = 16,
                     .groups = 1,
                     .D = skip::per_head,
                     .dt_bias = true,
                     .final = true};
  ssd_options wide = narrow;
  wide.states = 72;
  check_all<ssd_case, E>(std::vector{narrow, wide});
  check_all<scan_case, E>(std::vector<selective_scan_options>{
      {.batch = 1, .length = 100000, .channels = 8, .states = 8, .D = true, .final = true}});
  check_all<conv_case, E>(std::vector<conv_options>{{.batch = 1, .length = 100001, .channels = 8}});
}
