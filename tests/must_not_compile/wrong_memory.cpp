// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A host view where a device view is wanted.
// must say: memory::device
#include "mlmamba/core/view.hpp"
using namespace mlmamba;
void take(view<float, 2, memory::device>);
#if defined(CONTROL)
void test(view<float, 2, memory::device> v) { take(v); }
#else
void test(view<float, 2, memory::host> v) { take(v); }
#endif
