// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// How an algorithm gets into the scan lab: one struct in one file of algorithms/.
//
//   #include "scan_lab/lab.hpp"
//   struct mine {
//     static constexpr const char* name = "mine";
//     template <class E>
//     static void run(context_of<E>& ctx, const ops::ssd<E>& op);  // fills op.y
//   };
//   static const lab::add<mine> it;
//
// The op that `run` takes says what the algorithm computes: ops::ssd, ops::ssd_backward,
// ops::selective_scan or ops::selective_scan_backward (several overloads: several entries). Memory
// from ctx.scratch counts as free; what else it allocates is timed.
#pragma once

#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "mlmamba/backend/cpu/selective_scan.hpp"
#include "mlmamba/backend/cpu/ssd.hpp"
#include "mlmamba/core/context.hpp"

namespace lab {

using namespace mlmamba;

template <class Op>
using run_function = std::function<void(context<backend::cpu>&, const Op&)>;

/// What an algorithm computes.
namespace kind {
struct ssd {
  template <class E>
  using op = ops::ssd<E>;
};
struct ssd_backward {
  template <class E>
  using op = ops::ssd_backward<E>;
};
struct selective_scan {
  template <class E>
  using op = ops::selective_scan<E>;
};
struct selective_scan_backward {
  template <class E>
  using op = ops::selective_scan_backward<E>;
};
}  // namespace kind

/// One algorithm for one kind of op, in the dtypes of the lab; empty functions: not in that one.
template <class Kind>
struct algorithm {
  std::string name;
  run_function<typename Kind::template op<cpu_f32>> f32;
  run_function<typename Kind::template op<cpu_bf16>> bf16;

  template <class E>
  const auto& in() const {
    if constexpr (std::is_same_v<E, cpu_f32>) {
      return f32;
    } else {
      return bf16;
    }
  }
};

/// All algorithms for a kind of op; files add theirs before main.
template <class Kind>
std::vector<algorithm<Kind>>& algorithms() {
  static std::vector<algorithm<Kind>> all;
  return all;
}

namespace detail {

template <class A, class Op>
concept runs = requires(context<backend::cpu>& ctx, const Op& op) {
  A::run(ctx, op);
};
template <class A, class Op>
run_function<Op> function_of() {
  if constexpr (runs<A, Op>)
    return [](context<backend::cpu>& ctx, const Op& op) { A::run(ctx, op); };
  return {};
}
template <class A, class Kind>
void add_to() {
  algorithm<Kind> a{A::name, function_of<A, typename Kind::template op<cpu_f32>>(),
                    function_of<A, typename Kind::template op<cpu_bf16>>()};
  if (a.f32 || a.bf16) algorithms<Kind>().push_back(std::move(a));
}

}  // namespace detail

/// A static object of this type adds the algorithm A.
template <class A>
struct add {
  add() {
    detail::add_to<A, kind::ssd>();
    detail::add_to<A, kind::ssd_backward>();
    detail::add_to<A, kind::selective_scan>();
    detail::add_to<A, kind::selective_scan_backward>();
  }
};

}  // namespace lab
