// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What the lab computes: operands of a kind of op, the same numbers in double, and the error of
// what an algorithm wrote.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "mlmamba/backend/reference/selective_scan.hpp"
#include "mlmamba/backend/reference/ssd.hpp"
#include "ops/selective_scan_cases.hpp"
#include "ops/ssd_cases.hpp"
#include "scan_lab/lab.hpp"

namespace lab {

/// Sizes of both families: heads and channels of a head; of Mamba-1 only the product D = H P.
struct sizes {
  index_t batch = 1, length = 1, heads = 1, channels = 1, states = 1, groups = 1;
};

namespace detail {

inline std::string label(const char* name, index_t n) { return name + std::to_string(n); }

/// Steps and rates as models have before training: half-lives of 0.4 to 700 tokens.
template <class Rates, class Biases>
void as_before_training(Rates& rate, Biases& dt_bias, std::uint64_t seed) {
  random_stream r{seed, 21, 0};
  for (index_t i = 0; i < rate.count(); ++i)
    rate.data()[i] = real_t<typename Rates::value_type>(-r.uniform(1, 16));
  for (index_t i = 0; i < dt_bias.count(); ++i)
    dt_bias.data()[i] = real_t<typename Biases::value_type>(
        std::log(std::expm1(std::exp(r.uniform(std::log(1e-3), std::log(0.1))))));
}
/// Case<E> and Case<exact> on the same rounded numbers.
template <class Case, class Exact>
void fill(Case& c, Exact& x) {
  verify::randomise(c, c, 1);
  as_before_training(c.rate, c.dt_bias, 1);
  std::vector<std::vector<double>> values;
  const auto keep = [&](const char*, auto& t, auto&, auto...) {
    values.push_back(verify::detail::read(t));
  };
  Case::inputs(c, keep);
  Case::outputs(c,
                [&](const char*, auto&, auto& dt) { values.push_back(verify::detail::read(dt)); });
  std::size_t k = 0;
  Exact::inputs(x, [&](const char*, auto& t, auto&, auto...) {
    if (t) verify::detail::write(t, values[k]);
    ++k;
  });
  Exact::outputs(x, [&](const char*, auto&, auto& dt) {
    if (dt) verify::detail::write(dt, values[k]);
    ++k;
  });
}
inline verify::ssd_options options(kind::ssd*, const sizes& s) {
  return {.batch = s.batch,
          .length = s.length,
          .heads = s.heads,
          .channels = s.channels,
          .states = s.states,
          .groups = s.groups,
          .D = verify::skip::per_head,
          .dt_bias = true};
}
inline verify::selective_scan_options options(kind::selective_scan*, const sizes& s) {
  return {.batch = s.batch,
          .length = s.length,
          .channels = s.heads * s.channels,
          .states = s.states,
          .groups = s.groups,
          .D = true,
          .dt_bias = true};
}
template <class E>
ops::ssd<E> op_of(kind::ssd*, verify::ssd_case<E>& c) {
  return c.as_op();
}
template <class E>
ops::ssd_backward<E> op_of(kind::ssd_backward*, verify::ssd_case<E>& c) {
  return c.as_backward_op();
}
template <class E>
ops::selective_scan<E> op_of(kind::selective_scan*, verify::scan_case<E>& c) {
  return c.as_op();
}
template <class E>
ops::selective_scan_backward<E> op_of(kind::selective_scan_backward*, verify::scan_case<E>& c) {
  return c.as_backward_op();
}

}  // namespace detail

/// What the lab has to know of a kind of op.
template <class Kind>
struct family;
template <>
struct family<kind::ssd> {
  static constexpr const char* name = "ssd";
  using forward = kind::ssd;
  template <class E>
  using data = verify::ssd_case<E>;
  static constexpr bool backward = false, mamba1 = false;
};
template <>
struct family<kind::ssd_backward> : family<kind::ssd> {
  static constexpr const char* name = "ssd_backward";
  static constexpr bool backward = true;
};
template <>
struct family<kind::selective_scan> {
  static constexpr const char* name = "selective_scan";
  using forward = kind::selective_scan;
  template <class E>
  using data = verify::scan_case<E>;
  static constexpr bool backward = false, mamba1 = true;
};
template <>
struct family<kind::selective_scan_backward> : family<kind::selective_scan> {
  static constexpr const char* name = "selective_scan_backward";
  static constexpr bool backward = true;
};

template <class Kind>
std::string shape_name(const sizes& s) {
  using detail::label;
  std::string t = label("B", s.batch) + label(" L", s.length);
  t += family<Kind>::mamba1 ? label(" D", s.heads * s.channels)
                            : label(" H", s.heads) + label(" P", s.channels);
  return t + label(" N", s.states) + label(" G", s.groups);
}

/// One kind at one shape in one dtype, with what plain loops in double make of the same numbers.
template <class Kind, class E>
class problem {
 public:
  using op_type = typename Kind::template op<E>;
  using data = typename family<Kind>::template data<E>;

  explicit problem(const sizes& s) : data_(options(s)), op_(detail::op_of<E>(tag(), data_)) {
    using exact_data = typename family<Kind>::template data<exact>;
    exact_data x(options(s));
    detail::fill(data_, x);
    clear();
    zero_sums(x);
    context<backend::reference> plain;
    run(plain, detail::op_of<exact>(tag(), x));
    want_ = results(x);
  }
  const op_type& op() const { return op_; }
  /// Outputs become NaN, sums zero: what is not written shows.
  void clear() {
    data::outputs(data_, [](const char*, auto& t, auto&) { verify::detail::fill_nan(t); });
    zero_sums(data_);
  }
  /// Of what lies in the outputs: the largest over the arrays of ||got - want|| / ||want||; NaN if
  /// one of them is.
  double error() {
    const auto got = results(data_);
    double worst = 0;
    for (std::size_t k = 0; k < want_.size(); ++k) {
      double off = 0, norm = 0;
      for (std::size_t i = 0; i < want_[k].size(); ++i) {
        off += (got[k][i] - want_[k][i]) * (got[k][i] - want_[k][i]);
        norm += want_[k][i] * want_[k][i];
      }
      const double e = std::sqrt(off / (norm > 0 ? norm : 1));
      if (std::isnan(e)) return e;
      worst = std::max(worst, e);
    }
    return worst;
  }

 private:
  static Kind* tag() { return nullptr; }
  static auto options(const sizes& s) {
    return detail::options(static_cast<typename family<Kind>::forward*>(nullptr), s);
  }
  template <class Data>
  static void zero_sums(Data& d) {
    Data::inputs(d, [](const char*, auto&, auto& dt, auto...) {
      if (dt) std::memset(static_cast<void*>(dt.data()), 0, std::size_t(dt.bytes()));
    });
  }
  template <class Data>
  static std::vector<std::vector<double>> results(Data& d) {
    std::vector<std::vector<double>> r;
    if constexpr (family<Kind>::backward) {
      Data::inputs(
          d, [&](const char*, auto&, auto& dt, auto...) { r.push_back(verify::detail::read(dt)); });
    } else {
      Data::outputs(d, [&](const char*, auto& t, auto&) { r.push_back(verify::detail::read(t)); });
    }
    return r;
  }

  data data_;
  op_type op_;
  std::vector<std::vector<double>> want_;
};

}  // namespace lab
