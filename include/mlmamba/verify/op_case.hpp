// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Op cases: one description of an op with its data serves the gradient check, the comparison of
// backends, the checks of independence, and the benchmarks.
//
// A case is a struct template on the engine E with
//   using engine_type = E;
//   a constructor that allocates its tensors from plain sizes and options
//
//   static void inputs(auto& self, auto&& f);    f("x", self.x, self.dx [, range]) for each input
//   static void outputs(auto& self, auto&& f);   f("y", self.y, self.dy) for each output
//   void forward(context_of<E>&);                runs the op: outputs from inputs
//   void backward(context_of<E>&);               gradients of inputs from gradients of outputs
//   double terms() const;                        length of the longest sum, for tolerances
//
// Absent operands are empty tensors. dweight-like gradients accumulate: they are zeroed before.
// A case without gradients (argmax, patchify) leaves dx empty and backward out.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "mlmamba/core/context.hpp"
#include "mlmamba/core/random.hpp"

namespace mlmamba::verify {

/// What random numbers an input gets.
enum class range {
  normal,    ///< standard normal
  negative,  ///< -exp(normal): decay rates
  positive,  ///< exp(normal) / 4: steps, scales
  small,     ///< normal / 4: weights
  about_20,  ///< 20 + 2 normal: where softplus becomes its argument
};

inline double sample(range r, random_stream& s) {
  switch (r) {
    case range::negative:
      return -std::exp(s.normal());
    case range::positive:
      return 0.25 * std::exp(s.normal());
    case range::small:
      return 0.25 * s.normal();
    case range::about_20:
      return 20 + 2 * s.normal();
    case range::normal:
      break;
  }
  return s.normal();
}

/// Is one error worse than another? NaN is the worst; std::max would lose it.
inline bool is_worse(double error, double than) { return !(error <= than) && !std::isnan(than); }

namespace detail {

template <class Tensor>
std::vector<double> read(const Tensor& t) {
  std::vector<double> v;
  if (!t) return v;
  const auto h = to_host(t.view());
  for (index_t i = 0; i < h.count(); ++i) v.push_back(double(math::real(h.data()[i])));
  return v;
}
template <class Tensor>
void write(Tensor& t, const std::vector<double>& v) {
  using T = typename Tensor::value_type;
  tensor<T, Tensor::rank> h(t.shape());
  for (index_t i = 0; i < h.count(); ++i) h.data()[i] = T(real_t<T>(v[std::size_t(i)]));
  from_host(t.view(), std::as_const(h).view());
}
template <class Tensor>
void fill_nan(Tensor& t) {
  if (t) allocator<typename Tensor::memory>::fill(t.data(), 0xff, t.bytes());
}

}  // namespace detail

template <class C>
concept has_backward = requires(C& c, context_of<typename C::engine_type>& ctx) {
  c.backward(ctx);
};

/// Fills the inputs and the gradients of the outputs of `to`, and gives `same` (a case of equal
/// sizes on another engine) the same numbers after rounding to the element types of `to`. All
/// numbers are multiplied by `scale`.
template <class To, class Same>
void randomise(To& to, Same& same, std::uint64_t seed, double scale = 1) {
  std::vector<std::vector<double>> values;
  const random_stream r{seed, 1, 0};
  auto draw = [&](const std::string& name, auto& t, range rg) {
    random_stream s = r.fork(name);
    std::vector<double> v;
    for (index_t i = 0; i < t.count(); ++i) v.push_back(scale * sample(rg, s));
    if (t) detail::write(t, v);
    values.push_back(detail::read(t));
  };
  To::inputs(
      to, [&](const char* name, auto& t, auto&, range rg = range::normal) { draw(name, t, rg); });
  To::outputs(to, [&](const char* name, auto&, auto& dt) {
    draw(std::string("d") + name, dt, range::normal);
  });
  std::size_t k = 0;
  Same::inputs(same, [&](const char*, auto& t, auto&, range = range::normal) {
    if (t) detail::write(t, values[k]);
    ++k;
  });
  Same::outputs(same, [&](const char*, auto&, auto& dt) {
    if (dt) detail::write(dt, values[k]);
    ++k;
  });
}

/// Forward, then backward if there is one. Outputs start as NaN, accumulated gradients as zero.
template <class C>
void run_case(C& c, context_of<typename C::engine_type>& ctx) {
  C::outputs(c, [](const char*, auto& t, auto&) { detail::fill_nan(t); });
  c.forward(ctx);
  if constexpr (has_backward<C>) {
    // (auto...: with a default argument here nvcc 13.0 crashes)
    C::inputs(c, [](const char*, auto&, auto& dt, auto...) {
      if (dt)
        allocator<typename std::remove_cvref_t<decltype(dt)>::memory>::fill(dt.data(), 0,
                                                                            dt.bytes());
    });
    c.backward(ctx);
  }
}

struct array {
  std::string name;
  std::vector<double> values;
};

/// All results of a case, in order: outputs, then gradients of inputs.
template <class C>
std::vector<array> results(C& c) {
  std::vector<array> r;
  C::outputs(c, [&](const char* name, auto& t, auto&) { r.push_back({name, detail::read(t)}); });
  if constexpr (has_backward<C>) {
    C::inputs(c, [&](const char* name, auto&, auto& dt, range = range::normal) {
      r.push_back({std::string("d") + name, detail::read(dt)});
    });
  }
  return r;
}

struct difference {
  std::string where;    ///< the worst array and element, with both values
  double relative = 0;  ///< ||got - want|| / ||want|| over the array
  double tolerance = 0;
  bool ok = true;
};

/// Rounding error that a correct implementation may have, relative to the norm of the result:
/// one rounding of each input use and of the output to the value type, and the growth of the error
/// of sums of `terms` numbers in accum (random walk, sqrt; the constant 4 covers the handful of
/// operations between inputs and output).
template <engine E>
double tolerance(double terms) {
  using A = real_t<typename E::accum>;
  const double accum = double(std::numeric_limits<A>::epsilon()) / 2;
  const double value = std::is_same_v<typename E::value, bf16>  ? 0x1p-9
                       : std::is_same_v<typename E::value, f16> ? 0x1p-12
                                                                : accum;
  return 4 * (value + accum * std::sqrt(std::max(terms, 1.0)) * 2);
}

/// Compares arrays by norm, and element by element against the array's root mean square times the
/// same tolerance and a factor for the largest of n normal deviations. NaN never passes.
/// `rounding`, if there, is the norm of the error that a plain implementation with the same storage
/// types makes of each array: an array may then be off by twice that (two chains of roundings of
/// equal length, sqrt 2 apart).
inline difference compare_arrays(const std::vector<array>& got, const std::vector<array>& want,
                                 const double op_tolerance,
                                 const std::vector<double>* rounding = nullptr) {
  difference d;
  d.tolerance = op_tolerance;
  if (got.size() != want.size()) {
    d.ok = false;
    d.where = std::to_string(got.size()) + " arrays; wanted are " + std::to_string(want.size());
    return d;
  }
  for (std::size_t k = 0; k < want.size(); ++k) {
    const auto& g = got[k].values;
    const auto& w = want[k].values;
    if (g.size() != w.size()) {
      d.ok = false;
      d.where = want[k].name + ": " + std::to_string(g.size()) + " elements; wanted are " +
                std::to_string(w.size());
      return d;
    }
    double error = 0, norm = 0, worst = -1;
    std::size_t at = 0;
    for (std::size_t i = 0; i < w.size(); ++i) {
      const double e = std::abs(g[i] - w[i]);
      error += e * e;
      norm += w[i] * w[i];
      if (is_worse(e, worst)) worst = e, at = i;
    }
    if (w.empty()) continue;
    double tolerance = op_tolerance;
    if (rounding && norm > 0) tolerance = std::max(tolerance, 2 * (*rounding)[k] / std::sqrt(norm));
    const double relative = norm > 0 ? std::sqrt(error / norm) : std::sqrt(error);
    const double rms = std::sqrt(norm / double(w.size()));
    const double peak = 8 * tolerance * std::max(rms, std::abs(w[at]));
    const bool ok = relative <= tolerance && (worst <= peak || norm == 0);
    if (!(relative <= d.relative) || !ok) {
      if (d.ok) {
        d.relative = relative;
        d.tolerance = tolerance;
        d.where = want[k].name + "[" + std::to_string(at) + "]: got " + std::to_string(g[at]) +
                  ", wanted " + std::to_string(w[at]);
      }
    }
    d.ok = d.ok && ok;
  }
  return d;
}

/// The norm of the error of each result of Case on the plain backend with the storage types of E.
/// A gradient of one element may by chance be exact: the root mean square over a few scales of the
/// same numbers, if that is larger.
template <template <class> class Case, engine E, class... Args>
std::vector<double> rounding_errors(std::uint64_t seed, const Args&... args) {
  constexpr int scales = 5;
  using Plain = on<backend::reference, typename E::value, typename E::accum, typename E::weight,
                   typename E::state>;
  Case<Plain> p(args...);
  Case<exact> x(args...);
  context<backend::reference> plain;
  std::vector<double> first, squares;
  for (int i = 0; i < scales; ++i) {
    randomise(p, x, seed, 1 + i / 128.0);
    run_case(p, plain);
    run_case(x, plain);
    const auto got = results(p), want = results(x);
    if (i == 1) first = squares;
    squares.resize(got.size());
    for (std::size_t k = 0; k < got.size(); ++k)
      for (std::size_t j = 0; j < got[k].values.size(); ++j) {
        const double e = got[k].values[j] - want[k].values[j];
        squares[k] += e * e;
      }
  }
  for (std::size_t k = 0; k < squares.size(); ++k)
    squares[k] = std::sqrt(std::max(first[k], squares[k] / scales));
  return squares;
}

/// Are values or states stored narrower than sums?
template <engine E>
inline constexpr bool stores_narrow = sizeof(typename E::value) < sizeof(typename E::accum) ||
                                      sizeof(typename E::state) < sizeof(typename E::accum);

/// Runs Case<E>(args...) and Case<exact>(args...) on the same (rounded) numbers. Where values are
/// stored narrower than sums, or where `by_plain` asks for it, results are held to what the plain
/// backend with the same types makes of them (compare_arrays), if that is more than the tolerance.
template <template <class> class Case, engine E, bool by_plain = stores_narrow<E>, class... Args>
difference compare(context_of<E>& ctx, std::uint64_t seed, const Args&... args) {
  Case<E> c(args...);
  Case<exact> x(args...);
  randomise(c, x, seed);
  context<backend::reference> plain;
  run_case(c, ctx);
  run_case(x, plain);
  const auto got = results(c);
  auto want = results(x);
  if constexpr (!has_backward<Case<E>>) want.resize(got.size());  // outputs come first
  const difference d = compare_arrays(got, want, tolerance<E>(x.terms()));
  if constexpr (by_plain) {
    if (!d.ok) {
      const auto rounding = rounding_errors<Case, E>(seed, args...);
      return compare_arrays(got, want, tolerance<E>(x.terms()), &rounding);
    }
  }
  return d;
}

/// Are all results of two contexts (other thread counts) equal bit for bit? NaN never is.
template <template <class> class Case, engine E, class... Args>
bool same_bits(context_of<E>& a, context_of<E>& b, std::uint64_t seed, const Args&... args) {
  Case<E> c(args...), d(args...);
  randomise(c, d, seed);
  run_case(c, a);
  run_case(d, b);
  const auto r = results(c), s = results(d);
  for (std::size_t k = 0; k < r.size(); ++k)
    if (r[k].values != s[k].values) return false;
  return true;
}

}  // namespace mlmamba::verify
