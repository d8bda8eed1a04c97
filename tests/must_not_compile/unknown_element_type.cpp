// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// An engine whose numbers are not numbers to compute with.
// must say: element
#include "mlmamba/ops/elementwise.hpp"
using namespace mlmamba;
#if defined(CONTROL)
using value = bf16;
#else
using value = int;
#endif
using E = on<backend::reference, value>;
void test(context<backend::reference>& ctx, const ops::activate<E>& op);
