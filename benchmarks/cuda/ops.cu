// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The ops of Mamba on a GPU at the sizes of Mamba-2 2.7B, and the attention of vision towers when
// it is trained: each is compared with the same op in float on the same GPU (which the tests hold
// to the reference in double), then timed.
//
//   benchmark_cuda_ops [--json FILE] [WORD...]      only rows that contain a WORD
#include "measure.cuh"

namespace {

using namespace bench;
using E = cuda_bf16;
template <int R>
using floats = tensor<float, R, memory::device>;

/// The same numbers in float.
template <class T, int R>
floats<R> widened(tensor<T, R, memory::device>& t) {
  auto h = to_host(t.view());
  tensor<float, R> w(h.shape());
  for (index_t i = 0; i < h.count(); ++i) w.data()[i] = float(h.data()[i]);
  floats<R> d(h.shape());
  from_host(d.view(), std::as_const(w).view());
  return d;
}
template <class T>
T randomly(T t, std::uint64_t seed, double scale = 1, double shift = 0) {
  fill_normal(t, seed, scale, shift);
  return t;
}

/// Rates and steps as models have them before training.
struct scan_parameters {
  floats<1> A, bias, D;
  scan_parameters(index_t heads) : A({heads}), bias({heads}), D({heads}) {
    random_stream r{2, 0, 0};
    std::vector<float> a, b;
    for (index_t h = 0; h < heads; ++h) {
      a.push_back(float(-r.uniform(1, 16)));
      b.push_back(float(std::log(std::expm1(std::exp(r.uniform(std::log(1e-3), std::log(0.1)))))));
    }
    allocator<memory::device>::from_host(A.data(), a.data(), A.bytes());
    allocator<memory::device>::from_host(bias.data(), b.data(), bias.bytes());
    fill_normal(D, 9);
  }
};

void ssd(gpu& ctx, report& out, index_t B, index_t L, bool backward) {
  constexpr index_t H = 80, P = 64, N = 128;
  const std::string name = std::string("ssd ") + (backward ? "forward + backward" : "forward") +
                           ", H 80 P 64 N 128, B " + std::to_string(B) + " L " + std::to_string(L);
  if (!is_wanted(name)) return;
  scan_parameters p(H);
  tensor_of<E, 4> x({B, L, H, P}), Bm({B, L, 1, N}), C({B, L, 1, N}), y(x.shape());
  tensor_of<E, 3> dt({B, L, H});
  fill_normal(x, 1), fill_normal(Bm, 2), fill_normal(C, 3), fill_normal(dt, 4, 0.5);
  floats<2> D({H, 1});
  fill_normal(D, 5);
  auto skip = D.view();
  skip.size[1] = P, skip.stride[1] = 0;
  const auto set = [&](auto& op, auto& x, auto& dt, auto& Bm, auto& C) {
    op.x = x, op.dt = dt, op.A = p.A, op.B = Bm, op.C = C, op.D = skip, op.dt_bias = p.bias;
    op.dt_softplus = true;
  };
  ops::ssd<E> op;
  set(op, x, dt, Bm, C);
  op.y = y;
  run(ctx, op);
  double error;
  ops::ssd_backward<E> back;
  tensor_of<E, 4> dy, dx, dB, dC;
  tensor_of<E, 3> ddt;
  floats<1> dA({H}), ddt_bias({H});
  floats<2> dD({H, 1});
  if (backward) {
    dy = randomly(tensor_of<E, 4>(x.shape()), 6), dx = tensor_of<E, 4>(x.shape());
    dB = tensor_of<E, 4>(Bm.shape()), dC = tensor_of<E, 4>(Bm.shape()),
    ddt = tensor_of<E, 3>(dt.shape());
    set(back, x, dt, Bm, C);
    auto dskip = dD.view();
    dskip.size[1] = P, dskip.stride[1] = 0;
    back.dy = dy, back.dx = dx, back.dB = dB, back.dC = dC, back.ddt = ddt, back.dA = dA;
    back.ddt_bias = ddt_bias, back.dD = dskip;
  }
  {
    auto xf = widened(x), Bf = widened(Bm), Cf = widened(C);
    auto dtf = widened(dt);
    floats<4> yf(x.shape());
    ops::ssd<cuda_f32> plain;
    set(plain, xf, dtf, Bf, Cf);
    plain.y = yf;
    run(ctx, plain);
    ctx.synchronize();
    error = relative_error(y, yf);
    if (backward) {
      run(ctx, back);
      auto dyf = widened(dy);
      floats<4> dxf(x.shape()), dBf(Bm.shape()), dCf(Bm.shape());
      floats<3> ddtf(dt.shape());
      ops::ssd_backward<cuda_f32> pb;
      set(pb, xf, dtf, Bf, Cf);
      pb.dy = dyf, pb.dx = dxf, pb.dB = dBf, pb.dC = dCf, pb.ddt = ddtf;
      run(ctx, pb);
      ctx.synchronize();
      error = std::max({error, relative_error(dx, dxf), relative_error(dB, dBf),
                        relative_error(dC, dCf), relative_error(ddt, ddtf)});
    }
  }
  const double t = seconds(
      ctx,
      [&] {
        run(ctx, op);
        if (backward) run(ctx, back);
      },
      L * B > 40000 ? 3 : 10);
  out.add({name, t, op.bytes() + (backward ? back.bytes() : 0),
           op.flops() + (backward ? back.flops() : 0), error, backward ? 2e-2 : 8e-3});
}

void selective_scan(gpu& ctx, report& out, index_t B, index_t L, bool backward) {
  constexpr index_t D = 5120, N = 16;
  const std::string name = std::string("selective_scan ") +
                           (backward ? "forward + backward" : "forward") + ", D 5120 N 16, B " +
                           std::to_string(B) + " L " + std::to_string(L);
  if (!is_wanted(name)) return;
  scan_parameters p(D);
  auto x = randomly(tensor_of<E, 3>({B, L, D}), 1),
       dt = randomly(tensor_of<E, 3>({B, L, D}), 2, 0.5),
       z = randomly(tensor_of<E, 3>({B, L, D}), 3);
  auto Bm = randomly(tensor_of<E, 4>({B, L, 1, N}), 4),
       C = randomly(tensor_of<E, 4>({B, L, 1, N}), 5);
  std::vector<float> rates;
  for (index_t i = 0; i < D * N; ++i) rates.push_back(-float(i % N + 1));
  floats<2> A({D, N});
  allocator<memory::device>::from_host(A.data(), rates.data(), A.bytes());
  tensor_of<E, 3> y(x.shape());
  const auto set = [&](auto& op, auto& x, auto& dt, auto& z, auto& Bm, auto& C) {
    op.x = x, op.dt = dt, op.A = A, op.B = Bm, op.C = C, op.D = p.D, op.z = z, op.dt_bias = p.bias;
    op.dt_softplus = true;
  };
  ops::selective_scan<E> op;
  set(op, x, dt, z, Bm, C);
  op.y = y;
  run(ctx, op);
  ops::selective_scan_backward<E> back;
  tensor_of<E, 3> dy, dx, ddt, dz;
  tensor_of<E, 4> dB, dC;
  floats<2> dA(A.shape());
  floats<1> dD({D}), dbias({D});
  if (backward) {
    dy = randomly(tensor_of<E, 3>(x.shape()), 6), dx = dy, ddt = dy, dz = dy, dB = Bm, dC = C;
    set(back, x, dt, z, Bm, C);
    back.dy = dy, back.dx = dx, back.ddt = ddt, back.dz = dz, back.dB = dB, back.dC = dC;
    back.dA = dA, back.dD = dD, back.ddt_bias = dbias;
    run(ctx, back);
  }
  double error;
  {
    auto xf = widened(x), dtf = widened(dt), zf = widened(z);
    auto Bf = widened(Bm), Cf = widened(C);
    floats<3> yf(x.shape());
    ops::selective_scan<cuda_f32> plain;
    set(plain, xf, dtf, zf, Bf, Cf);
    plain.y = yf;
    run(ctx, plain);
    ctx.synchronize();
    error = relative_error(y, yf);
  }
  const double t = seconds(
      ctx,
      [&] {
        run(ctx, op);
        if (backward) run(ctx, back);
      },
      3);
  out.add({name, t, op.bytes() + (backward ? back.bytes() : 0), 0, error, 8e-3});
}

void causal_conv1d(gpu& ctx, report& out, bool backward) {
  constexpr index_t B = 8, L = 2048, D = 5376;
  const std::string name = std::string("causal_conv1d ") +
                           (backward ? "forward + backward" : "forward") + ", B 8 L 2048 D 5376";
  if (!is_wanted(name)) return;
  auto x = randomly(tensor_of<E, 3>({B, L, D}), 1), dy = randomly(tensor_of<E, 3>({B, L, D}), 2);
  tensor_of<E, 3> y(x.shape()), dx(x.shape());
  auto w = randomly(floats<2>({D, 4}), 3, 0.5);
  auto bias = randomly(floats<1>({D}), 4);
  floats<2> dw(w.shape());
  floats<1> dbias({D});
  const ops::causal_conv1d<E> op{.x = x, .weight = w, .bias = bias, .y = y};
  const ops::causal_conv1d_backward<E> back{
      .x = x, .weight = w, .bias = bias, .dy = dy, .dx = dx, .dweight = dw, .dbias = dbias};
  run(ctx, op);
  if (backward) run(ctx, back);
  double error;
  {
    auto xf = widened(x), dyf = widened(dy);
    floats<3> yf(x.shape()), dxf(x.shape());
    run(ctx, ops::causal_conv1d<cuda_f32>{.x = xf, .weight = w, .bias = bias, .y = yf});
    ctx.synchronize();
    error = relative_error(y, yf);
    if (backward) {
      run(ctx, ops::causal_conv1d_backward<cuda_f32>{
                   .x = xf, .weight = w, .bias = bias, .dy = dyf, .dx = dxf});
      ctx.synchronize();
      error = std::max(error, relative_error(dx, dxf));
    }
  }
  const double t = seconds(ctx, [&] {
    run(ctx, op);
    if (backward) run(ctx, back);
  });
  out.add({name, t, op.bytes() + (backward ? back.bytes() : 0), 0, error, 8e-3});
}

void gated_norm(gpu& ctx, report& out) {
  constexpr index_t M = 16384, D = 5120;
  const std::string name = "gated_rms_norm 16384 x 5120";
  if (!is_wanted(name)) return;
  auto x = randomly(tensor_of<E, 2>({M, D}), 1), z = randomly(tensor_of<E, 2>({M, D}), 2);
  tensor_of<E, 2> y(x.shape());
  auto w = randomly(floats<1>({D}), 3);
  const ops::gated_rms_norm<E> op{.x = x, .z = z, .weight = w, .y = y};
  run(ctx, op);
  double error;
  {
    auto xf = widened(x), zf = widened(z);
    floats<2> yf(x.shape());
    run(ctx, ops::gated_rms_norm<cuda_f32>{.x = xf, .z = zf, .weight = w, .y = yf});
    ctx.synchronize();
    error = relative_error(y, yf);
  }
  out.add({name, seconds(ctx, [&] { run(ctx, op); }), op.bytes(), 0, error, 8e-3});
}

template <class State>
void ssd_steps(gpu& ctx, report& out, index_t B) {
  constexpr index_t H = 80, P = 64, N = 128;
  const std::string name = "ssd_step (decode), H 80 P 64 N 128, " +
                           std::string(sizeof(State) == 4 ? "f32" : "bf16") + " state, batch " +
                           std::to_string(B);
  if (is_wanted(name)) {
    scan_parameters p(H);
    auto x = randomly(tensor_of<E, 3>({B, H, P}), 1), Bm = randomly(tensor_of<E, 3>({B, 1, N}), 2),
         C = randomly(tensor_of<E, 3>({B, 1, N}), 3);
    auto dt = randomly(tensor_of<E, 2>({B, H}), 4, 0.5);
    auto state = randomly(tensor<State, 4, memory::device>({B, H, P, N}), 5);
    auto again = widened(state);
    tensor_of<E, 3> y(x.shape());
    ops::ssd_step<on<backend::cuda, bf16, float, bf16, State>> op{.state = state,
                                                                  .x = x,
                                                                  .dt = dt,
                                                                  .A = p.A,
                                                                  .B = Bm,
                                                                  .C = C,
                                                                  .dt_bias = p.bias,
                                                                  .y = y,
                                                                  .dt_softplus = true};
    run(ctx, op);
    auto xf = widened(x), Bf = widened(Bm), Cf = widened(C);
    auto dtf = widened(dt);
    floats<3> yf(x.shape());
    run(ctx, ops::ssd_step<cuda_f32>{.state = again,
                                     .x = xf,
                                     .dt = dtf,
                                     .A = p.A,
                                     .B = Bf,
                                     .C = Cf,
                                     .dt_bias = p.bias,
                                     .y = yf,
                                     .dt_softplus = true});
    ctx.synchronize();
    const double error = relative_error(y, yf);
    out.add({name, seconds(ctx, [&] { run(ctx, op); }), op.bytes(), 0, error, 8e-3});
  }
}

void conv_steps(gpu& ctx, report& out, index_t B) {
  const std::string name = "causal_conv1d_step (decode), D 5376, batch " + std::to_string(B);
  if (is_wanted(name)) {
    auto x = randomly(tensor_of<E, 2>({B, 5376}), 1);
    auto state = randomly(tensor_of<E, 3>({B, 5376, 3}), 2);
    auto w = randomly(floats<2>({5376, 4}), 3);
    auto bias = randomly(floats<1>({5376}), 4);
    tensor_of<E, 2> y(x.shape());
    ops::causal_conv1d_step<E> op{.x = x, .state = state, .weight = w, .bias = bias, .y = y};
    auto xf = widened(x);
    auto sf = widened(state);
    floats<2> yf(x.shape());
    run(ctx, op);
    run(ctx, ops::causal_conv1d_step<cuda_f32>{
                 .x = xf, .state = sf, .weight = w, .bias = bias, .y = yf});
    ctx.synchronize();
    const double error = relative_error(y, yf);
    out.add({name, seconds(ctx, [&] { run(ctx, op); }), op.bytes(), 0, error, 8e-3});
  }
}

/// A vision tower's attention: T tokens, 16 heads of d; q, k, v are slices of one projection.
void attention_backward(gpu& ctx, report& out, const char* tower, index_t T, index_t d) {
  constexpr index_t B = 8, H = 16;
  const std::string name = "attention_backward, " + std::string(tower) + ", B 8 T " +
                           std::to_string(T) + " H 16 d " + std::to_string(d);
  if (!is_wanted(name)) return;
  auto qkv = randomly(tensor_of<E, 3>({B, T, 3 * H * d}), 1);
  auto dy = randomly(tensor_of<E, 4>({B, T, H, d}), 2);
  tensor_of<E, 4> y(dy.shape());
  tensor_of<E, 3> dqkv(qkv.shape());
  floats<3> log_sum_exp({B, H, T});
  const float scale = 1 / std::sqrt(float(d));
  const auto part = [&](auto& all, index_t which) {
    return all.view().slice(2, which * H * d, H * d).split(2, d);
  };
  const auto of = [&](auto engine, auto& qkv, auto& y, auto& dy, auto& dqkv) {
    return ops::attention_backward<decltype(engine)>{.q = part(qkv, 0),
                                                     .k = part(qkv, 1),
                                                     .v = part(qkv, 2),
                                                     .y = y,
                                                     .log_sum_exp = log_sum_exp,
                                                     .dy = dy,
                                                     .dq = part(dqkv, 0),
                                                     .dk = part(dqkv, 1),
                                                     .dv = part(dqkv, 2),
                                                     .scale = scale};
  };
  run(ctx, ops::attention<E>{.q = part(qkv, 0),
                             .k = part(qkv, 1),
                             .v = part(qkv, 2),
                             .y = y,
                             .log_sum_exp = log_sum_exp,
                             .scale = scale});
  const auto op = of(E{}, qkv, y, dy, dqkv);
  run(ctx, op);
  double error;
  {
    auto qkvf = widened(qkv);
    auto yf = widened(y), dyf = widened(dy);
    floats<3> dqkvf(qkv.shape());
    run(ctx, of(cuda_f32{}, qkvf, yf, dyf, dqkvf));
    ctx.synchronize();
    error = relative_error(dqkv, dqkvf);
  }
  out.add({name, seconds(ctx, [&] { run(ctx, op); }), op.bytes(), op.flops(), error, 8e-3});
}

}  // namespace

int main(int argc, char** argv) try {
  if (!wanted.read(argc, argv, "benchmark_cuda_ops")) return 0;
  gpu ctx;
  report out{roofs(ctx)};
  ssd(ctx, out, 1, 2048, false);
  ssd(ctx, out, 1, 16384, false);
  ssd(ctx, out, 8, 2048, false);
  ssd(ctx, out, 8, 4096, false);
  ssd(ctx, out, 1, 65536, false);
  ssd(ctx, out, 8, 2048, true);
  for (bool backward : {false, true}) {
    selective_scan(ctx, out, 8, 2048, backward);
    selective_scan(ctx, out, 1, 16384, backward);
  }
  for (bool backward : {false, true}) causal_conv1d(ctx, out, backward);
  gated_norm(ctx, out);
  attention_backward(ctx, out, "DINOv2 L/14", 730, 64);
  attention_backward(ctx, out, "SigLIP SO400M", 729, 72);
  for (index_t batch : {1, 64, 256}) {
    ssd_steps<float>(ctx, out, batch);
    ssd_steps<bf16>(ctx, out, batch);
    conv_steps(ctx, out, batch);
  }
  if (wanted.json) out.write(wanted.json);
  return out.ok() ? 0 : 1;
} catch (const mlmamba::error& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 2;
}
