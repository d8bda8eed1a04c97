// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Engines: where a module runs and in which precision. The one template parameter of everything.
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>

#include "mlmamba/core/scalar.hpp"

namespace mlmamba {

using index_t = std::int64_t;

namespace memory {
struct host {};
struct device {};
}  // namespace memory

/// Backend tags. A backend implements an op with `execute(context<tag>&, const op&)`.
namespace backend {

/// A tag that inherits every op of `Parent`; overloads on the new tag win.
template <class Parent>
struct extends : Parent {
  using parent = Parent;
};

/// Plain loops on any scalar: the definition of correct.
struct reference {
  using memory = mlmamba::memory::host;
  static constexpr const char* name = "reference";
};

// Two files built with different -m flags must not share inline functions, else the linker may keep
// the one that the machine can't run. So the CPU tag carries the flags it was compiled with.
namespace isa {
struct plain {};
struct sse4 {};
struct avx2 {};
struct avx512 {};
#if defined(__AVX512F__)
using current = avx512;
#elif defined(__AVX2__)
using current = avx2;
#elif defined(__SSE4_2__)
using current = sse4;
#else
using current = plain;
#endif
}  // namespace isa

template <class Isa>
struct cpu_for {
  using memory = mlmamba::memory::host;
  static constexpr const char* name = "cpu";
};
/// Threads and SIMD kernels.
using cpu = cpu_for<isa::current>;

/// NVIDIA GPUs: named everywhere, usable after including <mlmamba/cuda.cuh>.
struct cuda {
  using memory = mlmamba::memory::device;
  static constexpr const char* name = "cuda";
};
}  // namespace backend

/// Where (`Backend`) and in which precision a module runs.
///   value   how activations are stored and moved
///   accum   sums, statistics, one-dimensional parameters, gradients of parameters
///   weight  how matrices of weights are stored (may be narrower than value)
///   state   how the state of a scan is stored from one call to the next; inside a call it is in
///           accum. bf16 halves what a step of decoding moves of it, and rounds at every step:
///           what is smaller than 1/512 of an element then no longer changes it
/// With `packed` for Weight the matrices of linear maps are packed_matrix, prepared once, in
/// formats chosen when they are loaded (f32, bf16, int8, 4 bits); other ones are stored as value.
/// Such a module can't be trained.
/// With f16 for Value what exceeds 65504 is infinite and gradients below 6e-8 are zero: it is meant
/// for inference (loss scaling is not here), on CUDA or the reference; the CPU's kernels have none.
struct packed {};
template <class Backend, class Value, class Accum = accum_t<Value>, class Weight = Value,
          class State = Accum>
struct on {
  using backend = Backend;
  using value = Value;
  using accum = Accum;
  using weight = std::conditional_t<std::is_same_v<Weight, packed>, Value, Weight>;
  using state = State;
  using real = real_t<Accum>;  // the type of options such as epsilon
  using memory = typename Backend::memory;
};

template <class E>
concept engine = requires {
  typename E::backend;
  typename E::value;
  typename E::accum;
  typename E::weight;
  typename E::state;
  typename E::memory;
}
&&element<typename E::value>&& element<typename E::accum>&& element<typename E::state>;

/// Are linear maps of this engine on packed weights?
template <class E>
inline constexpr bool packs_weights = false;
template <class B, class V, class A, class S>
inline constexpr bool packs_weights<on<B, V, A, packed, S>> = true;

using reference_f32 = on<backend::reference, float>;
using reference_f16 = on<backend::reference, f16>;
using exact = on<backend::reference, double>;
using cpu_f32 = on<backend::cpu, float>;
using cpu_bf16 = on<backend::cpu, bf16>;
using cpu_packed = on<backend::cpu, float, float, packed>;
/// Activations in bf16, for processors that multiply tiles: what is not a linear map (attention,
/// SSD) goes through them too.
using cpu_packed_bf16 = on<backend::cpu, bf16, float, packed>;
using cpu_f64 = on<backend::cpu, double>;
using cuda_f32 = on<backend::cuda, float>;
using cuda_bf16 = on<backend::cuda, bf16>;
using cuda_f16 = on<backend::cuda, f16>;

/// `rebind_t<Module<E>, F>` is `Module<F>`: the same composition on another engine.
template <class M, class E>
struct rebind;
template <class M, class E>
using rebind_t = typename rebind<M, E>::type;

namespace detail {
template <class A, class E>
struct rebind_argument {
  using type = A;
};
template <engine A, class E>
struct rebind_argument<A, E> {
  using type = E;
};
template <class A, class E>
requires(!engine<A>) && requires { typename A::engine_type; }
struct rebind_argument<A, E> {
  using type = rebind_t<A, E>;
};
}  // namespace detail

template <template <class...> class M, class... A, class E>
struct rebind<M<A...>, E> {
  using type = M<typename detail::rebind_argument<A, E>::type...>;
};
template <template <class, template <class> class> class M, class A, template <class> class Part,
          class E>
struct rebind<M<A, Part>, E> {
  using type = M<typename detail::rebind_argument<A, E>::type, Part>;
};

}  // namespace mlmamba
