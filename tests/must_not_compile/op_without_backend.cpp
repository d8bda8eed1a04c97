// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// An op that the backend does not implement.
// must say: this backend does not implement this op for this element type
#include "mlmamba/ops/reduce.hpp"
using namespace mlmamba;
struct lonely : backend::extends<backend::reference> {};
using E = on<lonely, float>;
#if defined(CONTROL)
namespace mlmamba::backend {
template <class T>
void execute(context<reference>&, const ops::sum_rows<T>&) {}
}  // namespace mlmamba::backend
#endif
void test(context<lonely>& ctx, const ops::sum_rows<E>& op) { run(ctx, op); }
